"""A recorded search replayed under other pruners decides what a real search under them decides."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_orchestrate import PRUNERS, search

from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.simulate import CENSORED, compare, every_pruner, read_pruners, read_recording, replay
from mtlsearch.records import TrialRecord
from mtlsearch.search import read_records

pytestmark = pytest.mark.slow

WriteSpace = Callable[..., Path]
CHANGES = ("objective.metric=mean", "budget={trials: 9, epochs: 4}", "search.sampler=random")


@pytest.fixture
def recorded(space_file: WriteSpace, tmp_path: Path) -> ExperimentFolder:
    """A search of which every trial trained to its end."""
    return search(space_file(), tmp_path / "recorded", *CHANGES)


def decided(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What must agree between a replay and a search."""
    return [(each.number, each.state, each.value, each.reason, dict(each.intermediate)) for each in records]


@pytest.mark.parametrize("objective", ["mean", "delta"])
def test_a_replay_decides_what_the_search_decides(space_file: WriteSpace, tmp_path: Path, objective: str) -> None:
    changes = (*CHANGES[1:], f"objective.metric={objective}")
    folder = search(space_file(), tmp_path / "recorded", *changes)
    recording = read_recording(folder)
    for number, text in enumerate(PRUNERS if objective == "mean" else PRUNERS[3:5]):
        (pruner,) = read_pruners(folder, [text])
        really = search(space_file(), tmp_path / f"real-{number}", *changes, f"search.pruner={text}")
        replayed, seconds = replay(recording, pruner, 1, tmp_path / f"replayed-{number}")
        assert decided(replayed) == decided(read_records(really.journal))
        assert seconds == pytest.approx(
            sum(
                epoch.seconds
                for record in replayed
                for epoch in folder.trial(record.number).epochs()[: len(record.intermediate) or None]
            )
        )


def test_each_pruner_is_held_against_the_recording(recorded: ExperimentFolder) -> None:
    recording = read_recording(recorded)
    compared = compare(recording, every_pruner(recording.experiment.search.pruner), workers=1)
    first, *others = compared.outcomes
    assert (first.pruner, first.is_own, first.complete, first.epochs, first.loss) == ("none", True, 9, 36, 0.0)
    assert [each.pruner for each in others] == [
        "median",
        "percentile",
        "hyperband",
        "successive_halving",
        "wilcoxon",
        "patient",
    ]
    for each in compared.outcomes:
        assert each.complete + each.pruned == 9
        assert each.censored == each.failed == 0
        assert each.loss is not None
        assert each.loss >= 0
    assert len(compared.notes) == 1


def test_more_side_by_side_take_less_time(recorded: ExperimentFolder) -> None:
    recording = read_recording(recorded)
    (pruner,) = read_pruners(recorded, ["none"])
    one, three = (compare(recording, [pruner], workers).outcomes[0] for workers in (1, 3))
    assert one.epochs == three.epochs
    assert one.seconds / 3 <= three.seconds < one.seconds


def test_what_comes_after_a_recordings_end_is_not_guessed(space_file: WriteSpace, tmp_path: Path) -> None:
    """Trials that the search stopped are censored where another pruner lets them go on."""
    folder = search(space_file(), tmp_path / "recorded", *CHANGES, "search.pruner={kind: threshold, lower: 10.0}")
    recording = read_recording(folder)
    compared = compare(recording, read_pruners(folder, ["none", "{kind: threshold, lower: 10.0}"]), workers=1)
    none, own = compared.outcomes
    assert (none.censored, none.complete, none.failed, none.best) == (9, 0, 0, None)
    assert (own.censored, own.pruned, own.is_own) == (0, 9, True)
    assert own.pruner == "{kind: threshold, lower: 10.0}"
    assert "9 recorded trials end where the search stopped" in compared.notes[1]
    (pruner,) = read_pruners(folder, ["none"])
    replayed, _ = replay(recording, pruner, 1, tmp_path / "replayed")
    assert {each.reason for each in replayed} == {CENSORED}


def test_a_trial_that_failed_fails_again(space_file: WriteSpace, tmp_path: Path) -> None:
    space = "{model: mmoe, optimizer: {kind: sgd, lr: {choice: [0.001, 10.0]}}, batch_size: 64}"
    path = space_file(space=space, search="{sampler: grid, pruner: none}", objective="mean")
    folder = search(path, tmp_path / "out", "budget={trials: 6, epochs: 2}", "space.model={kind: mmoe}")
    (outcome,) = compare(read_recording(folder), read_pruners(folder, ["none"]), workers=2).outcomes
    assert (outcome.complete, outcome.failed, outcome.censored) == (1, 1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("medain", "--pruner medain: unknown kind of `pruner`: 'medain'"),
        ("{kind: median, foo: 3}", "unknown key 'foo'"),
        ("threshold", "it must have `lower` or `upper`"),
        ("x: [", "not YAML"),
    ],
)
def test_a_pruner_that_does_not_exist_is_refused(recorded: ExperimentFolder, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_pruners(recorded, [text])


def test_the_command(recorded: ExperimentFolder, mtlsearch: Callable[..., Any], tmp_path: Path) -> None:
    before = sorted(path for path in recorded.path.rglob("*"))
    table = mtlsearch("simulate", recorded.path, "--pruner", "{kind: median, n_startup_trials: 2}", "--workers", 2)
    assert (table.code, table.err) == (0, "")
    assert re.search(r"kind: median, +[.\d]+ +0 +\d+ +\d+s +\d+ +\d+ +0 +0\n", table.out)
    assert "9 trials recorded" in table.out
    as_json = mtlsearch("simulate", recorded.path, "--pruner", "none", "--format", "json")
    (outcome,) = json.loads(as_json.out)["outcomes"]
    assert (outcome["pruner"], outcome["complete"], outcome["loss"]) == ("none", 9, 0.0)
    as_csv = mtlsearch("simulate", recorded.path, "--pruner", "none", "--format", "csv")
    assert as_csv.out.startswith("pruner,is_own,best,")
    assert sorted(path for path in recorded.path.rglob("*")) == before
    assert mtlsearch("simulate", recorded.path, "--pruner", "medain").code == 2
    assert mtlsearch("simulate", tmp_path).code == 2

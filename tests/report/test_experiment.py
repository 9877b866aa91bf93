"""What is read of an experiment's folder: everything that is there, also before it is finished; damage is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest_report import MadeUp, binary_tasks

from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.experiment import read_experiment_facts

STATES = ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """Two baselines, then a trial in each state."""
    return MadeUp(tmp_path / "out", binary_tasks(2), epochs=3).write(STATES)


def test_trials_by_number_with_what_they_measured(folder: ExperimentFolder) -> None:
    facts = read_experiment_facts(folder)
    assert facts.name == "made_up"
    assert [task.name for task in facts.tasks] == ["t0", "t1"]
    assert list(facts.trials) == [0, 1, 2, 3, 4, 5]
    assert [trial.number for trial in facts.of_role("baseline")] == [0, 1]
    assert [trial.record.state for trial in facts.ranked()] == STATES
    assert facts.trials[2].epochs == tuple(folder.trial(2).epochs())
    assert facts.trials[2].test is not None
    assert facts.trials[4].epochs == ()
    assert facts.final is None
    assert facts.schema.splits[0].num_rows == 1000


def test_what_counts_is_a_complete_trials_best_epoch_and_the_last_of_any_other(
    folder: ExperimentFolder,
) -> None:
    facts = read_experiment_facts(folder)
    complete, pruned, failed = (facts.trials[number] for number in (2, 3, 4))
    assert complete.shown is not None
    assert complete.shown.objective == complete.record.value == max(epoch.objective for epoch in complete.epochs)
    assert pruned.shown == pruned.epochs[-1]
    assert failed.shown is None


def test_gains_are_over_the_baselines_and_their_mean_is_delta(folder: ExperimentFolder) -> None:
    facts = read_experiment_facts(folder)
    assert facts.reference == {"t0": 0.7, "t1": 0.7}
    trial = facts.trials[2]
    gains = facts.gains(trial)
    assert trial.shown is not None
    auroc = trial.shown.validation["t1"]["auroc"]
    assert auroc is not None
    assert gains["t1"] == pytest.approx((auroc - 0.7) / 0.7)
    assert sum(gains.values()) / 2 == pytest.approx(trial.record.value)
    assert facts.gains(facts.trials[4]) == {}


def test_without_baselines_there_are_no_gains(tmp_path: Path) -> None:
    facts = read_experiment_facts(MadeUp(tmp_path / "out", binary_tasks(2), baselines=False).write(["COMPLETE"]))
    assert facts.reference == {}
    assert facts.gains(facts.trials[0]) == {}


def test_a_line_that_is_being_written_is_not_there_yet(folder: ExperimentFolder) -> None:
    before = read_experiment_facts(folder).trials[5].epochs
    with folder.trial(5).metrics.open("a") as log:
        log.write('{"epoch": 9, "obj')
    assert read_experiment_facts(folder).trials[5].epochs == before


def test_a_search_that_has_just_begun(folder: ExperimentFolder) -> None:
    folder.journal.unlink()
    facts = read_experiment_facts(folder)
    assert facts.trials == {}
    assert facts.importance.objective == {}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("plan.json", "{", "must be the JSON that `mtlsearch run` wrote"),
        ("plan.json", '{"overrides": []}', "`tasks` must be the tasks"),
        ("plan.json", '{"overrides": [], "tasks": [{"name": "a", "kind": "odd"}]}', "`tasks` must be the tasks"),
        ("trials/00002/order.json", "{}", "must be what the trial was asked to do"),
        ("trials/00002/metrics.jsonl", "{}\n", "metrics.jsonl:1: every line must be what one epoch measured"),
        ("trials/00002/model.json", "[]", "must be what the trial wrote of its model"),
        ("trials/00002/test.json", "3", "must be the trial's test scores"),
    ],
)
def test_damage_is_refused_by_file(folder: ExperimentFolder, file: str, content: str, said: str) -> None:
    (folder.path / file).write_text(content)
    with pytest.raises(ConfigError, match="damaged") as refused:
        read_experiment_facts(folder)
    assert said in str(refused.value)
    assert str(folder.path / file) in str(refused.value)


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_damaged_schema_is_refused_when_it_is_needed(folder: ExperimentFolder, content: str | None) -> None:
    path = folder.path / "schema.json"
    path.unlink() if content is None else path.write_text(content)
    facts = read_experiment_facts(folder)
    with pytest.raises(ConfigError, match="must be the schema"):
        _ = facts.schema


def test_nothing_is_written(folder: ExperimentFolder) -> None:
    def state() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}

    before = state()
    facts = read_experiment_facts(folder)
    assert facts.importance.num_trials == 1
    assert state() == before
    assert json.loads(before[str(folder.plan)])["name"] == facts.name

"""The experiment's folder: old or new, never half; and what is found there after a crash."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mtlsearch.config import MMoEConfig, TrialConfig
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder, TrialFolder, check_new
from mtlsearch.records import EpochMetrics, TrialOrder

PLAN = {"overrides": ["search.seed=3"], "data_digest": "d1"}
ORDER = TrialOrder(
    number=17, role="trial", config=TrialConfig(model=MMoEConfig()), seed=1, epochs=3, tasks=("a",), metric="mean"
)


def _epoch(number: int, objective: float = 0.5) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        objective=objective,
        validation={"a": {"auroc": 0.75, "average_precision": None}},
        train_loss={"a": 0.1},
        task_weights={"a": 1.0},
        learning_rate=1e-3,
        grad_norm=0.5,
        seconds=2.0,
        samples_per_second=1e6,
    )


@pytest.fixture
def trial(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "00017")
    folder.begin(ORDER)
    return folder


# A trial ---------------------------------------------------------------------------------------------------------


def test_a_trial_is_taken_up_again_with_what_it_left(trial):
    trial.append(_epoch(1))
    trial.checkpoints.write("0.pt", b"weights")
    trial.begin(ORDER)
    assert trial.read_order() == ORDER
    assert trial.epochs() == [_epoch(1)]
    assert trial.checkpoints.read("0.pt") == b"weights"


def test_a_trial_that_measured_nothing_has_no_epochs(trial):
    assert trial.epochs() == []
    assert trial.read_test() is None


def test_numbers_that_are_no_json_survive(trial):
    trial.append(_epoch(1, float("nan")))
    trial.append(_epoch(2, float("-inf")))
    first, second = trial.epochs()
    assert first.objective != first.objective
    assert second.objective == float("-inf")


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_last_line_that_was_cut_off_is_no_epoch(trial, cut):
    for number in (1, 2, 3):
        trial.append(_epoch(number))
    trial.metrics.write_bytes(trial.metrics.read_bytes()[:-cut])
    assert trial.epochs() == [_epoch(1), _epoch(2)]


@pytest.mark.parametrize("left", ['{"epoch": 3, "obj', ""])
def test_a_line_that_was_cut_off_is_dropped_when_the_trial_is_taken_up(trial, left):
    for number in (1, 2):
        trial.append(_epoch(number))
    whole = trial.metrics.read_text()
    with trial.metrics.open("a") as file:
        file.write(left)
    trial.begin(ORDER)
    assert trial.metrics.read_text() == whole
    trial.append(_epoch(3))
    assert trial.epochs() == [_epoch(1), _epoch(2), _epoch(3)]


def test_checkpoints_that_were_never_finished_are_swept_away(trial):
    """They are large, and nobody will ever rename them."""
    trial.checkpoints.write("0.pt", b"weights")
    (trial.checkpoint / ".1.pt.4711").write_bytes(b"wei")
    trial.begin(ORDER)
    assert [path.name for path in trial.checkpoint.iterdir()] == ["0.pt"]


def test_a_first_line_that_was_cut_off_is_dropped_too(trial):
    trial.metrics.write_text('{"epoch": 1, "obj')
    trial.begin(ORDER)
    trial.append(_epoch(1))
    assert trial.epochs() == [_epoch(1)]


def test_a_line_for_which_there_is_no_room_leaves_those_that_were_there(small_disk):
    """Not even a part of it: the next line would be joined to that."""
    trial = TrialFolder(small_disk / "00017")
    trial.begin(ORDER)
    number = 0
    with suppress(OSError):
        while number < 1000:
            trial.append(_epoch(number + 1))
            number += 1
    assert 50 < number < 1000
    assert trial.metrics.read_bytes().endswith(b"\n")
    assert [metrics.epoch for metrics in trial.epochs()] == list(range(1, number + 1))
    with pytest.raises(OSError, match="No space left") as full:
        trial.append(_epoch(number + 1))
    assert full.value.errno == errno.ENOSPC
    subprocess.run(["mount", "-o", "remount,size=128k", str(small_disk)], check=True)
    trial.append(_epoch(number + 1))
    assert [metrics.epoch for metrics in trial.epochs()] == list(range(1, number + 2))


def test_a_damaged_line_is_named(trial):
    trial.append(_epoch(1))
    with trial.metrics.open("ab") as file:
        file.write(b"\xff\n")
    with pytest.raises(ConfigError) as refused:
        trial.epochs()
    assert str(refused.value) == (
        f"{trial.metrics}:2: every line must be what one epoch measured, but is damaged. Restore it from a copy."
    )


# An experiment ---------------------------------------------------------------------------------------------------


def test_a_new_experiment(tmp_path):
    folder = ExperimentFolder.create(tmp_path / "made" / "too", "name: ä\r\n", PLAN, "{}")
    assert folder.space.read_bytes().decode() == "name: ä\r\n"
    assert folder.read_plan() == PLAN
    assert ExperimentFolder.open(tmp_path / "made" / "too").path == folder.path
    assert folder.trial(17).path == folder.path / "trials" / "00017"
    assert [*(tmp_path / "made").iterdir()] == [folder.path]


def test_an_empty_folder_may_be_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}").read_plan() == PLAN


def test_a_failure_leaves_no_folder(tmp_path, monkeypatch):
    def fail(self: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ConfigError) as refused:
        ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}")
    assert str(refused.value) == (
        f"--out {tmp_path / 'out'} cannot be made: No space left on device. Choose a folder that you may write to."
    )
    assert [*tmp_path.iterdir()] == []


def test_of_two_drivers_that_make_the_same_folder_one_is_refused(tmp_path, monkeypatch):
    replace = Path.replace

    def overtaken(self: Path, target: Path) -> Path:
        (target / "trials").mkdir(parents=True)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    with pytest.raises(ConfigError, match="cannot be made: Directory not empty"):
        ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_place_where_something_is(tmp_path, monkeypatch):
    folder = ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}")
    with pytest.raises(ConfigError, match=r"exists\. Choose another, or go on with `mtlsearch resume "):
        check_new(folder.path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match=r"but \. exists\. Choose another\.$"):
        check_new(Path())
    check_new(Path("new"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_not_ours(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"is not writable\. Choose a folder that you may write to"):
        check_new(tmp_path / "out")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ((), "has no space.yaml and no plan.json"),
        (("plan.json",), "has no space.yaml"),
        (("space.yaml",), "has no plan.json"),
    ],
)
def test_a_folder_that_is_no_experiment(tmp_path, files, found):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError) as refused:
        ExperimentFolder.open(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path} is no experiment: it {found}. Give the folder that `mtlsearch run --out` wrote."
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", json.dumps({"overrides": {}}), json.dumps({"overrides": [1]})])
def test_a_damaged_plan(tmp_path, text):
    folder = ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}")
    folder.plan.write_text(text)
    with pytest.raises(ConfigError, match=r"but is damaged\. Restore it from a copy\."):
        folder.read_plan()


def _hold(path: Path, held: object) -> None:
    with ExperimentFolder(path).driven():
        held.set()  # type: ignore[attr-defined]
        time.sleep(60)


def test_one_driver_at_a_time_until_it_dies(tmp_path):
    folder = ExperimentFolder.create(tmp_path / "out", "", PLAN, "{}")
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    driver = spawn.Process(target=_hold, args=(folder.path, held))
    driver.start()
    assert held.wait(30)
    with pytest.raises(ConfigError) as refused, folder.driven():
        pass
    assert str(refused.value) == (f"{folder.path} is being searched by process {driver.pid}. Wait for it, or stop it.")
    driver.kill()
    driver.join()
    with folder.driven():
        assert (folder.path / "driver.lock").read_text() == f"{os.getpid()}\n"

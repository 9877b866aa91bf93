"""A driver that is killed with -9, wherever it is, and resumed: the whole study is the undisturbed one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest_orchestrate import facts, search, study

from mtlsearch.folder import ExperimentFolder
from mtlsearch.search import read_records

WriteSpace = Callable[..., Path]
SLOW = "{model: {choice: [{kind: shared_bottom, hidden: {choice: [4, 8]}}, {kind: mmoe, hidden: 4}]}, "
SLOW += "optimizer: {lr: {float: [1.0e-3, 1.0e-1], log: true}}, batch_size: 8}"
CHANGES = {
    "search": "{sampler: {kind: tpe, n_startup_trials: 3}, pruner: {kind: hyperband, reduction_factor: 2}, seed: 3}",
    "budget": "{trials: 8, epochs: 4}",
    "resources": "{max_concurrent: 1}",
    "space": SLOW,
}


def listen_to_interrupts() -> None:
    """A background job of a shell ignores Ctrl-C, and so would all that it starts; these tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Driver:
    """`mtlsearch` in a process of its own; what it prints goes to a file, which its children cannot hold open."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("w") as file:
            command = [sys.executable, "-m", "mtlsearch", *arguments]
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, preexec_fn=listen_to_interrupts
            )

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return self._log.read_text()

    def send_after(self, folder: Path, epochs: int, signal_number: int = signal.SIGKILL) -> int:
        """Sends the signal once so many epochs are measured, wherever the driver then is; its exit code."""
        deadline = time.monotonic() + 120
        while sum(path.read_bytes().count(b"\n") for path in folder.glob("trials/*/metrics.jsonl")) < epochs:
            assert self._process.poll() is None, f"it ended before {epochs} epochs:\n{self.output}"
            assert time.monotonic() < deadline, f"it hangs:\n{self.output}"
            time.sleep(0.003)
        os.kill(self._process.pid, signal_number)
        return self._process.wait(timeout=60)

    def end(self) -> str:
        """Waits for a good end; what was printed."""
        assert self._process.wait(timeout=300) == 0, self.output
        return self.output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "kills"),
    [
        ("local", (3, 17)),
        ("local", (10, 24)),
        pytest.param("ray", (5, 19), marks=pytest.mark.ray),
    ],
)
def test_killed_twice_and_resumed_it_is_the_undisturbed_study(
    space_file: WriteSpace, tmp_path: Path, engine: str, kills: tuple[int, int]
) -> None:
    space, out = space_file(**CHANGES), tmp_path / "disturbed"
    undisturbed = search(space, tmp_path / "undisturbed")
    log = tmp_path / "log"
    Driver(log, "run", str(space), "--out", str(out), "--engine", engine).send_after(out, kills[0])
    Driver(log, "resume", str(out), "--engine", engine).send_after(out, kills[1])
    Driver(log, "resume", str(out), "--engine", engine).end()
    disturbed = ExperimentFolder.open(out)
    assert facts(study(disturbed)) == facts(study(undisturbed))
    for trial in study(undisturbed):
        ours, theirs = (folder.trial(trial.number).epochs() for folder in (disturbed, undisturbed))
        assert [each.validation for each in ours] == [each.validation for each in theirs]
        assert [each.train_loss for each in ours] == [each.train_loss for each in theirs]
    drop_clock = [line.split(",")[:4] for line in disturbed.leaderboard.read_text().splitlines()]
    assert drop_clock == [line.split(",")[:4] for line in undisturbed.leaderboard.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_killed_in_the_final_trials_and_among_their_test_scores_the_ranking_is_the_undisturbed_one(
    space_file: WriteSpace, tmp_path: Path, engine: str
) -> None:
    space = space_file(**CHANGES, final="{top_k: 2, seeds: 2}")
    undisturbed, out, log = search(space, tmp_path / "undisturbed"), tmp_path / "disturbed", tmp_path / "log"
    records = read_records(undisturbed.journal)
    epochs = [len(undisturbed.trial(record.number).epochs()) for record in records]
    begin = sum(count for count, record in zip(epochs, records, strict=True) if record.role != "final")
    Driver(log, "run", str(space), "--out", str(out), "--engine", engine).send_after(out, begin + 1)
    Driver(log, "resume", str(out), "--engine", engine).send_after(out, begin + 26)
    Driver(log, "resume", str(out), "--engine", engine).send_after(out, sum(epochs))
    Driver(log, "resume", str(out), "--engine", engine).end()
    disturbed = ExperimentFolder.open(out)
    assert facts(study(disturbed)) == facts(study(undisturbed))
    assert disturbed.final.read_text() == undisturbed.final.read_text()
    for record in records:
        ours, theirs = (folder.trial(record.number) for folder in (disturbed, undisturbed))
        assert ours.read_test() == theirs.read_test()
        assert [each.validation for each in ours.epochs()] == [each.validation for each in theirs.epochs()]


@pytest.mark.slow
def test_ctrl_c_leaves_a_resumable_folder_and_says_how(space_file: WriteSpace, tmp_path: Path) -> None:
    space, out = space_file(**CHANGES), tmp_path / "interrupted"
    driver = Driver(tmp_path / "log", "run", str(space), "--out", str(out), "--engine", "local")
    assert driver.send_after(out, 6, signal.SIGINT) == 130, driver.output
    assert f"Go on with: mtlsearch resume {out}" in driver.output
    assert "Traceback" not in driver.output
    Driver(tmp_path / "log", "resume", str(out), "--engine", "local").end()
    assert facts(study(ExperimentFolder.open(out))) == facts(study(search(space, tmp_path / "undisturbed")))


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_on_ray_ends_its_processes_too(space_file: WriteSpace, tmp_path: Path) -> None:
    space, out = space_file(**CHANGES), tmp_path / "interrupted"
    driver = Driver(tmp_path / "log", "run", str(space), "--out", str(out))
    assert driver.send_after(out, 6, signal.SIGINT) == 130, driver.output
    assert f"Go on with: mtlsearch resume {out}" in driver.output
    assert "Traceback" not in driver.output


@pytest.mark.slow
def test_a_finished_search_is_not_run_again(space_file: WriteSpace, tmp_path: Path) -> None:
    folder = search(space_file(), tmp_path / "done")
    before = folder.journal.read_bytes()
    output = Driver(tmp_path / "log", "resume", str(folder.path), "--engine", "local").end()
    assert "epoch 1" not in output
    assert folder.journal.read_bytes() == before

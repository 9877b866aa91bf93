"""Several drivers of one search, each with a folder of its own, over one study in PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_postgresql import Server

from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialRecord
from mtlsearch.search import read_records, study_of

pytestmark = pytest.mark.slow

TRIALS = 10
LONG = 40
"""Epochs of a trial of which a driver can be killed in the middle."""


@pytest.fixture
def shared(space_file: Callable[..., Path], database: str) -> Path:
    """The space file of a search whose study is in the database."""
    return space_file(
        search=f"{{sampler: random, pruner: none, seed: 3, storage: '{database}'}}",
        budget=f"{{trials: {TRIALS}, epochs: 2}}",
    )


def records(folder: Path) -> list[TrialRecord]:
    return read_records(study_of(ExperimentFolder.open(folder)))


def facts(trials: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What must agree between two searches."""
    return [(t.number, t.role, t.state, t.params, t.value, t.reason, t.intermediate) for t in trials]


def begin(*arguments: object) -> subprocess.Popen[bytes]:
    """A driver in a process of its own, of which some seconds of silence say that it is gone."""
    program = "from mtlsearch.search import heartbeat; heartbeat.BEAT_SECONDS = 0.5; import mtlsearch.__main__"
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments), "--engine", "local"])


def wait_for(condition: Callable[[], bool], seconds: float = 400.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def check_whole(folder: Path) -> set[int]:
    """Every trial that is in the folder has every epoch once; the numbers of those."""
    here = [record for record in records(folder) if record.here]
    for record in here:
        lines = (folder / "trials" / f"{record.number:05d}" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, LONG + 1))
        assert record.folder.endswith(f":{folder}")
    return {record.number for record in here}


def test_two_processes_share_a_search_and_one_is_killed(shared: Path, tmp_path: Path, mtlsearch: Any) -> None:
    """Neither ends before the other has begun: each trial takes far longer than the difference of their starts. What
    the one had begun, which may be baselines that everybody waits for, the other takes over."""
    one, two = tmp_path / "one", tmp_path / "two"
    longer = ("--set", f"budget.epochs={LONG}")
    processes = [begin("run", shared, *longer, "--out", folder) for folder in (one, two)]
    try:
        wait_for(lambda: all(folder.is_dir() and any(folder.iterdir()) for folder in (one / "trials", two / "trials")))
        processes[0].send_signal(signal.SIGKILL)
        assert processes[0].wait(60) == -signal.SIGKILL
        assert processes[1].wait(400) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = records(two)
    assert [record.number for record in found] == list(range(4 + TRIALS))
    assert [record.role for record in found] == 4 * ["baseline"] + TRIALS * ["trial"]
    assert {record.state for record in found} == {"COMPLETE"}
    in_one, in_two = check_whole(one), check_whole(two)
    assert in_one | in_two == set(range(4 + TRIALS))
    assert not in_one & in_two
    left = {int(path.name) for path in (one / "trials").iterdir()}
    assert left - in_one, "it was killed between two trials"
    _check_views(mtlsearch, one, two, found, min(in_two))
    resumed = mtlsearch("resume", one, "--engine", "local")  # there is nothing left to do
    assert resumed.code == 0, resumed.err
    assert check_whole(one) == in_one


def test_a_driver_that_is_killed_goes_on_in_its_folder(
    shared: Path, space_file: Any, tmp_path: Path, mtlsearch: Any
) -> None:
    out, epochs = tmp_path / "shared", f"budget.epochs={LONG}"
    process = begin("run", shared, "--set", epochs, "--out", out)
    try:
        wait_for((out / "trials" / "00005" / "metrics.jsonl").exists)
    finally:
        process.kill()
        process.wait()
    resumed = mtlsearch("resume", out, "--engine", "local")
    assert resumed.code == 0, resumed.err
    plain = space_file("plain.yaml", budget=f"{{trials: {TRIALS}, epochs: {LONG}}}")
    assert mtlsearch("run", plain, "--engine", "local", "--out", tmp_path / "journal").code == 0
    assert facts(records(out)) == facts(records(tmp_path / "journal"))
    assert check_whole(out) == set(range(4 + TRIALS))


def _check_views(mtlsearch: Any, one: Path, two: Path, found: list[TrialRecord], away: int) -> None:
    """Each folder's leaderboard has all trials: of the other's, what the study holds."""
    boards = [json.loads(mtlsearch("leaderboard", folder, "--format", "json").out) for folder in (one, two)]
    for name in ("trial", "role", "state", "objective", "reason", "model.kind", "optimizer.lr", "batch_size"):
        assert [row[name] for row in boards[0]] == [row[name] for row in boards[1]]
    for row, other in zip(*boards, strict=True):
        folders = [row.get("folder"), other.get("folder")]  # also where one has what was left of a trial
        assert found[row["trial"]].folder in folders
        assert folders.count(None) == 1
    assert mtlsearch("report", one).code == 0
    refused = mtlsearch("export", one, "--trial", away, "--out", one.parent / "model")
    assert refused.code == 2
    assert f"are in {found[away].folder}. Do it there" in refused.err


def test_a_third_driver_that_comes_late_finds_nothing_to_do(shared: Path, tmp_path: Path, mtlsearch: Any) -> None:
    """But the final ranking: the study has the test scores of every driver."""
    alike = ("run", shared, "--trials", 2, "--set", "final={top_k: 1, seeds: 2}", "--engine", "local")
    ended = mtlsearch(*alike, "--out", tmp_path / "one")
    assert ended.code == 0, ended.err
    before = records(tmp_path / "one")
    late = mtlsearch(*alike, "--out", tmp_path / "late")
    assert late.code == 0, late.err
    rankings = [json.loads((tmp_path / name / "final.json").read_text()) for name in ("one", "late")]
    assert rankings[0] == rankings[1]
    assert rankings[1]["complete"]
    scores = [
        [{name: value for name, value in row.items() if name.startswith("test/")} for row in board]
        for board in (
            json.loads(mtlsearch("leaderboard", tmp_path / name, "--format", "json").out) for name in ("one", "late")
        )
    ]
    assert scores[0] == scores[1]
    assert any(scores[0])
    assert facts(records(tmp_path / "late")) == facts(before)
    assert not any(record.here for record in records(tmp_path / "late"))
    assert not list((tmp_path / "late" / "trials").iterdir())
    for command in (("report",), ("report", "--format", "png"), ("leaderboard",)):  # of what the study holds alone
        shown = mtlsearch(command[0], tmp_path / "late", *command[1:])
        assert shown.code == 0, shown.err


def test_a_server_that_is_restarted_in_the_middle_of_a_search_changes_nothing(
    shared: Path, space_file: Any, tmp_path: Path, server: Server, mtlsearch: Any
) -> None:
    plain = space_file("plain.yaml", budget=f"{{trials: {TRIALS}, epochs: 2}}")
    assert mtlsearch("run", plain, "--engine", "local", "--out", tmp_path / "journal").code == 0
    ended, restarts = threading.Event(), []

    def restart() -> None:
        while not ended.wait(0.3):
            server.control("restart", "-m", "immediate")
            restarts.append(time.monotonic())

    monkey = threading.Thread(target=restart)
    process = begin("run", shared, "--out", tmp_path / "shared")
    try:
        wait_for((tmp_path / "shared" / "trials" / "00000").exists)
        monkey.start()
        assert process.wait(300) == 0
    finally:
        process.kill()
        process.wait()
        ended.set()
        monkey.join()
    assert len(restarts) > 3
    assert facts(records(tmp_path / "shared")) == facts(records(tmp_path / "journal"))


def test_what_cannot_be_joined_is_refused_before_anything_is_written(
    shared: Path, space_file: Any, server: Server, database: str, tmp_path: Path, mtlsearch: Any
) -> None:
    out = tmp_path / "out"
    ended = mtlsearch("run", shared, "--trials", 1, "--engine", "local", "--out", tmp_path / "first")
    assert ended.code == 0, ended.err
    other = space_file("other.yaml", name="small", space="{model: shared_bottom}", budget="{trials: 1, epochs: 2}")
    for command, reason in (
        (("run", other, "--storage", database), "another experiment's, which differs in space"),
        (("run", shared, "--set", "budget.epochs=3"), "differs in budget.epochs"),
        (("run", other, "--storage", "postgresql://searcher@127.0.0.1:9/studies"), "cannot be used: "),
        (("run", other, "--storage", server.url("nowhere")), 'database "nowhere" does not exist'),
        (("run", other, "--storage", "postgresql://me:s3cret@127.0.0.1/studies"), "must not hold a password"),
    ):
        refused = mtlsearch(*command, "--engine", "local", "--out", out)
        assert refused.code == 2
        assert reason in refused.err
        assert "s3cret" not in refused.err
        assert "Traceback" not in refused.err
        assert not out.exists()


def test_a_password_comes_from_the_environment(
    shared: Path, tmp_path: Path, server: Server, mtlsearch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reaches PostgreSQL's own library, and no file of ours."""
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    out = tmp_path / "out"
    assert mtlsearch("run", shared, "--trials", 1, "--engine", "local", "--out", out).code == 0
    written = [path for path in out.rglob("*") if path.is_file()]
    assert written
    assert not any(b"s3cret" in path.read_bytes() for path in written)
    assert os.environ["PGPASSWORD"] == "s3cret"

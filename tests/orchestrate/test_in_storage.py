"""A search in an object store: equal to one in a folder, whatever happens to the driver, its host or the store."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_orchestrate import facts, search, study
from storage_server import StorageServer
from test_resume import CHANGES, Driver

import mtlsearch as package
from mtlsearch.folder import ExperimentFolder, lease
from mtlsearch.folder import storage as room
from mtlsearch.folder.files import default_cache
from mtlsearch.folder.local_copy import LocalCopy
from mtlsearch.folder.storage import Storage
from mtlsearch.orchestrate.session import Session

pytestmark = pytest.mark.slow
WriteSpace = Callable[..., Path]


def forget(uri: str) -> None:
    """This host is another one now: it has no copy."""
    shutil.rmtree(LocalCopy(uri).path)


def assert_equal(one: ExperimentFolder, other: ExperimentFolder) -> None:
    """The studies, and every epoch of every trial once."""
    assert facts(study(one)) == facts(study(other))
    for trial in study(other):
        ours, theirs = (folder.trial(trial.number).epochs() for folder in (one, other))
        assert [each.epoch for each in ours] == [*range(1, len(ours) + 1)]
        assert [each.validation for each in ours] == [each.validation for each in theirs]
        assert one.trial(trial.number).read_test() == other.trial(trial.number).read_test()


def started(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`mtlsearch` in a process of its own; it and its trials wait 3 seconds for the store, and their lease is short."""
    start = log.with_name("start")
    start.mkdir()
    (start / "sitecustomize.py").write_text(
        "from mtlsearch.folder import lease, storage\nstorage.PATIENCE, lease.EXPIRES_SECONDS = 3.0, 1.0\n"
    )
    environment = os.environ | {"PYTHONPATH": str(start)}
    with log.open("w") as file:
        command = [sys.executable, "-m", "mtlsearch", *arguments]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def wait_for_epochs(epochs: int, driver: subprocess.Popen[bytes], copy: Path, log: Path) -> None:
    """Until the driver has taken so many."""
    end = time.monotonic() + 120
    while sum(path.read_bytes().count(b"\n") for path in copy.glob("trials/*/metrics.jsonl")) < epochs:
        assert driver.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.003)


def at_epoch(epochs: int, what: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, after: bool = False) -> None:
    """Does something before the driver takes its epoch of that number, or after."""
    report, taken = Session.report, []

    def counted(session: Session, *arguments: Any) -> Any:
        taken.append(1)
        if len(taken) == epochs and not after:
            what()
        decision = report(session, *arguments)
        if len(taken) == epochs and after:
            what()
        return decision

    monkeypatch.setattr(Session, "report", counted)


def test_it_is_the_search_in_a_folder(space_file: WriteSpace, tmp_path: Path, s3_uri: str) -> None:
    space = space_file(**CHANGES)
    search(space, s3_uri)
    forget(s3_uri)
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "folder"))
    assert not [name for name in Storage(s3_uri).below() if "driver.json" in name or "status" in name]


@pytest.mark.parametrize(("engine", "kills"), [("local", (3, 17)), pytest.param("ray", (5, 19), marks=pytest.mark.ray)])
def test_killed_on_one_host_and_resumed_on_another_it_is_the_undisturbed_study(
    space_file: WriteSpace, tmp_path: Path, s3_uri: str, engine: str, kills: tuple[int, int]
) -> None:
    space, log, copy = space_file(**CHANGES), tmp_path / "log", LocalCopy(s3_uri).path
    Driver(log, "run", str(space), "--out", s3_uri, "--engine", engine).send_after(copy, kills[0])
    for epochs in (kills[1], None):
        forget(s3_uri)
        driver = Driver(log, "resume", s3_uri, "--engine", engine)
        if epochs is None:
            driver.end()
        else:
            driver.send_after(copy, epochs)
    assert f"everything is in: {s3_uri}" in log.read_text()
    forget(s3_uri)
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "undisturbed"))


def test_ctrl_c_says_how_to_go_on(space_file: WriteSpace, tmp_path: Path, s3_uri: str) -> None:
    log, copy = tmp_path / "log", LocalCopy(s3_uri).path
    driver = Driver(log, "run", str(space_file(**CHANGES)), "--out", s3_uri, "--engine", "local")
    assert driver.send_after(copy, 6, signal.SIGINT) == 130, driver.output
    assert f"Go on with: mtlsearch resume {s3_uri}" in driver.output
    assert "Traceback" not in driver.output
    assert "driver.json" not in Storage(s3_uri).below(), "the next driver need not wait"


def test_a_store_that_is_away_for_a_while_changes_nothing(
    space_file: WriteSpace, tmp_path: Path, s3_server: StorageServer, s3_uri: str, monkeypatch
) -> None:
    def away() -> None:
        s3_server.stop()
        threading.Timer(8.0, s3_server.start).start()

    space = space_file()
    with monkeypatch.context() as patch:
        at_epoch(11, away, patch)
        search(space, s3_uri)
    forget(s3_uri)
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "undisturbed"))


@pytest.mark.parametrize("after", [False, True], ids=["a report", "a checkpoint"])
def test_a_store_that_is_gone_ends_the_search_which_goes_on_when_it_is_back(
    space_file: WriteSpace, tmp_path: Path, s3_server: StorageServer, s3_uri: str, mtlsearch, monkeypatch, after
) -> None:
    space = space_file()
    with monkeypatch.context() as patch:
        patch.setattr(room, "PATIENCE", 2.0)
        at_epoch(11, s3_server.stop, patch, after=after)
        ended = mtlsearch("run", space, "--out", s3_uri, "--engine", "local")
    s3_server.start()
    assert ended.code == 1, ended.err
    assert f"{s3_uri} could not be reached for" in ended.err
    assert "Traceback" not in ended.err
    forget(s3_uri)
    monkeypatch.setattr(lease, "EXPIRES_SECONDS", 0.0)  # its process has not ended: it is this one
    ended = mtlsearch("resume", s3_uri, "--engine", "local")
    assert ended.code == 0, ended.err
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "undisturbed"))


@pytest.mark.ray
def test_on_ray_a_store_that_is_gone_ends_the_search_which_goes_on_when_it_is_back(
    space_file: WriteSpace, tmp_path: Path, s3_server: StorageServer, s3_uri: str
) -> None:
    space, log, copy = space_file(**CHANGES), tmp_path / "log", LocalCopy(s3_uri).path
    driver = started(log, "run", str(space), "--out", s3_uri)
    wait_for_epochs(6, driver, copy, log)
    s3_server.stop()
    try:
        assert driver.wait(timeout=120) == 1, log.read_text()
    finally:
        s3_server.start()
    assert f"go on with: mtlsearch resume {s3_uri}" in log.read_text()
    assert "Traceback" not in log.read_text()
    forget(s3_uri)
    Driver(log, "resume", s3_uri).end()
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "undisturbed"))


def test_a_driver_that_was_cut_off_ends_and_its_successor_has_everything(
    space_file: WriteSpace, tmp_path: Path, s3_uri: str, mtlsearch, monkeypatch
) -> None:
    """The first one sleeps, as a laptop does, until another host took over; then it wakes up."""
    space, log, copy = space_file(), tmp_path / "log", LocalCopy(s3_uri).path
    driver = started(log, "run", str(space), "--out", s3_uri, "--engine", "local")
    wait_for_epochs(7, driver, copy, log)
    driver.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(lease, "EXPIRES_SECONDS", 0.0)  # what follows takes less than a minute
    monkeypatch.setenv("MTLSEARCH_CACHE", str(tmp_path / "another host"))
    time.sleep(2.0)  # the store counts in seconds
    ended = mtlsearch("resume", s3_uri, "--engine", "local")
    assert ended.code == 0, ended.err
    (successor,) = (entry.read_bytes() for entry in LocalCopy(s3_uri).path.glob("study.journal"))
    driver.send_signal(signal.SIGCONT)
    assert driver.wait(timeout=120) == 1
    assert f"{s3_uri} was taken over by a driver that has ended since" in log.read_text()
    forget(s3_uri)
    assert ExperimentFolder.open(s3_uri).journal.read_bytes() == successor
    assert_equal(ExperimentFolder.open(s3_uri), search(space, tmp_path / "undisturbed"))


def test_every_command_takes_the_uri(space_file: WriteSpace, tmp_path: Path, s3_uri: str, mtlsearch) -> None:
    ended = mtlsearch("run", space_file(), "--out", s3_uri, "--engine", "local")
    assert ended.code == 0, ended.err
    assert f"everything is in: {s3_uri}" in ended.out
    board = mtlsearch("leaderboard", s3_uri, "--format", "csv").out
    for command in (
        ("leaderboard", s3_uri, "--format", "csv"),
        ("report", s3_uri),
        ("report", s3_uri, "--format", "png"),
        ("export", s3_uri, "--out", tmp_path / "model"),
        ("status", s3_uri),
        ("sync", s3_uri),
        ("resume", s3_uri, "--engine", "local"),
    ):
        forget(s3_uri)
        ended = mtlsearch(*command)
        if command[0] == "sync":
            assert (ended.code, "login" in ended.err) == (2, True)
            continue
        assert ended.code == 0, ended.err
        if command[0] == "leaderboard":
            assert ended.out == board
        if command == ("report", s3_uri):
            assert ended.out == f"{s3_uri}/report.html\n"
    names = Storage(s3_uri).below()
    assert "report.html" in names
    assert any(name.startswith("plots/") for name in names)
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert package.open(s3_uri).trials.num_rows == 8
    ended = mtlsearch("stop", s3_uri)
    assert (ended.code, "nobody drives it" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s3://nosuch/a", "must be a place that you may read and write"),
        ("s3://key:secret@bucket/a", "must have no secrets in it"),
        ("nosuch://bucket/a", "must be a URI that pyarrow opens"),
        ("file:///proc/experiments", "must be a place that you may read and write"),
    ],
)
@pytest.mark.usefixtures("s3_uri")
def test_what_cannot_be_used_is_refused_before_anything_is_written(space_file: WriteSpace, mtlsearch, out, said):
    copies = default_cache() / "experiments"
    before = sorted(copies.glob("*/*"))
    for command in (("run", space_file(), "--out", out), ("resume", out), ("leaderboard", out)):
        ended = mtlsearch(*command)
        assert ended.code == 2, ended.err
        assert said in ended.err or "is no experiment" in ended.err
        assert "Traceback" not in ended.err
        assert ended.err.count("\n") == 1
    assert sorted(copies.glob("*/*")) == before
    assert [path.name for path in Path.cwd().iterdir()] == []


def test_a_store_that_does_not_know_our_key_is_refused(
    space_file: WriteSpace, s3_server: StorageServer, s3_uri: str, mtlsearch
) -> None:
    with s3_server.refusing():
        for command in (("run", space_file(), "--out", s3_uri), ("resume", s3_uri), ("leaderboard", s3_uri)):
            ended = mtlsearch(*command)
            assert (ended.code, "INVALID_ACCESS_KEY_ID" in ended.err) == (2, True), ended.err
    assert Storage(s3_uri).below() == {}


def test_an_experiment_that_is_there_is_not_overwritten(space_file: WriteSpace, s3_uri: str, mtlsearch) -> None:
    assert mtlsearch("run", space_file(), "--out", s3_uri, "--engine", "local", "--trials", 1).code == 0
    before = {name: Storage(s3_uri).read(name) for name in Storage(s3_uri).below()}
    ended = mtlsearch("run", space_file(), "--out", s3_uri, "--engine", "local")
    assert (ended.code, f"mtlsearch resume {s3_uri}" in ended.err) == (2, True)
    assert {name: Storage(s3_uri).read(name) for name in Storage(s3_uri).below()} == before


def test_a_search_starts_from_one_in_a_store(space_file: WriteSpace, tmp_path: Path, s3_uri: str, mtlsearch) -> None:
    assert mtlsearch("run", space_file(), "--out", s3_uri, "--engine", "local", "--trials", 2).code == 0
    warm = ("--set", f"search.warm_start={s3_uri}", "--trials", 3)
    ended = mtlsearch("run", space_file(), *warm, "--engine", "local", "--out", tmp_path / "next")
    assert ended.code == 0, ended.err
    assert f"warm start: {s3_uri}: 2 of its best configurations come first" in ended.out
    tried = [trial.params for trial in study(ExperimentFolder.open(tmp_path / "next")) if trial.params]
    for trial in study(ExperimentFolder.open(s3_uri)):
        assert not trial.params or trial.params in tried
    nothing = mtlsearch("check", space_file(), "--set", f"search.warm_start={s3_uri}/nothing")
    assert nothing.code == 2
    assert "search.warm_start must be an earlier search's folder" in nothing.err

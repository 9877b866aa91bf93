"""One driver at a time in a storage: a lease that is kept alive, expires, and is noticed when it is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder import lease as room
from mtlsearch.folder.files import write_whole
from mtlsearch.folder.lease import NAME, Lease, holder_of
from mtlsearch.folder.storage import Storage


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A storage's folder."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def storage(place: Path) -> Storage:
    """It, by its URI."""
    return Storage(f"file://{place}")


def nothing() -> None:
    """At a beat."""


def write_foreign(place: Path, *, seconds_ago: float, host: str = "elsewhere", pid: int = 7) -> None:
    """The sign of life of another driver."""
    write_whole(place / NAME, json.dumps({"id": "theirs", "number": 4, "host": host, "pid": pid, "beat": 0.0}))
    then = time.time() - seconds_ago
    os.utime(place / NAME, (then, then))


def test_it_is_there_while_it_is_held_and_gone_after(storage, place):
    assert holder_of(storage) is None
    with Lease(storage).held(nothing):
        assert f"process {os.getpid()} on" in str(holder_of(storage))
    assert list(place.iterdir()) == []


def test_a_second_driver_is_refused_while_the_first_one_lives(storage):
    with (
        Lease(storage).held(nothing),
        pytest.raises(ConfigError, match=f"is being searched by process {os.getpid()} on"),
        Lease(storage).held(nothing),
    ):
        pass


@pytest.mark.parametrize(("seconds_ago", "lives"), [(50, True), (70, False)])
def test_a_driver_of_another_host_lives_as_long_as_its_last_sign_is_fresh(storage, place, seconds_ago, lives):
    write_foreign(place, seconds_ago=seconds_ago)
    assert holder_of(storage) == ("process 7 on elsewhere" if lives else None)


def test_a_process_of_this_machine_that_has_ended_is_not_waited_for(storage, place):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_foreign(place, seconds_ago=0, host=room._host(), pid=ended.pid)
    with Lease(storage).held(nothing):
        assert f"process {os.getpid()} on" in str(holder_of(storage))


def test_of_two_that_come_at_once_the_last_to_write_has_it(storage, place, monkeypatch):
    write = Lease._write

    def overtaken(lease: Lease, where: Storage) -> None:
        write(lease, where)
        write_foreign(place, seconds_ago=0)

    monkeypatch.setattr(Lease, "_write", overtaken)
    with pytest.raises(ConfigError, match="is being searched by process 7 on elsewhere"), Lease(storage).held(nothing):
        pass
    assert holder_of(storage) == "process 7 on elsewhere"


def test_who_finds_another_in_its_place_writes_no_more(storage, place, monkeypatch):
    monkeypatch.setattr(room, "BEAT_SECONDS", 0.1)
    lease, beats = Lease(storage), []
    with lease.held(lambda: beats.append(1)):
        lease.check()
        while len(beats) < 3:
            time.sleep(0.01)
        write_foreign(place, seconds_ago=0)
        time.sleep(1.0)
        with pytest.raises(MtlsearchError, match="was taken over by process 7 on elsewhere"):
            lease.check()
    assert json.loads((place / NAME).read_text())["id"] == "theirs"


def test_who_was_stopped_for_a_while_looks_before_it_writes(storage, place, monkeypatch):
    lease = Lease(storage)
    with lease.held(nothing):
        write_foreign(place, seconds_ago=0)
        lease.check()  # its last sign is fresh: it cannot have been replaced
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 40)
        with pytest.raises(MtlsearchError, match="was taken over"):
            lease.check()


def test_who_slept_while_another_came_and_went_writes_no_more_either(storage, place, monkeypatch):
    lease = Lease(storage)
    with lease.held(nothing):
        (place / NAME).unlink()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 600)
        with pytest.raises(MtlsearchError, match="was taken over by a driver that has ended since"):
            lease.check()
    assert not (place / NAME).exists()


def test_the_number_of_who_did_not_give_it_back_is_known_to_the_next(storage, place):
    write_foreign(place, seconds_ago=70)
    lease = Lease(storage)
    with lease.held(nothing):
        assert lease.predecessor == json.loads((place / NAME).read_text())["number"] == 4
        lease.set_number(5)
        assert json.loads((place / NAME).read_text())["number"] == 5


def test_a_damaged_sign_is_refused(storage, place):
    (place / NAME).write_text("{}")
    with pytest.raises(ConfigError, match=r"driver\.json must be what a driver wrote"):
        holder_of(storage)

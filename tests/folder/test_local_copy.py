"""An experiment in a storage and its copy on a host: what is sent, when, in which order, and what another host gets."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder import local_copy as room
from mtlsearch.folder.local_copy import LocalCopy, Part, joined, readable
from mtlsearch.folder.storage import Storage, StorageLost

PLAN = {"name": "small", "overrides": []}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A storage's folder."""
    return tmp_path / "store"


@pytest.fixture
def uri(place: Path) -> str:
    """Of it."""
    return f"file://{place}"


@pytest.fixture
def folder(uri: str) -> ExperimentFolder:
    """A new experiment."""
    return ExperimentFolder.create(uri, "space", PLAN, "{}")


def on_another_host(uri: str) -> ExperimentFolder:
    """The experiment where no copy is."""
    shutil.rmtree(LocalCopy(uri).path, ignore_errors=True)
    return ExperimentFolder.open(uri)


def add(folder: ExperimentFolder, name: str, text: str) -> None:
    """Appends to a file of the copy."""
    path = folder.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def stored(place: Path) -> set[str]:
    """Names of all files in the storage."""
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


# New ------------------------------------------------------------------------------------------------------------


def test_a_new_experiment_is_in_the_storage_once_it_is_driven(folder, place, uri):
    assert not stored(place)
    with folder.driven():
        assert stored(place) == {"space.yaml", "plan.json", "schema.json", "driver.json"}
    assert stored(place) == {"space.yaml", "plan.json", "schema.json"}
    assert (folder.name, folder.uri) == (uri, uri)
    assert folder.shown(folder.path / "report.html") == f"{uri}/report.html"


def test_a_place_that_has_files_is_refused(place, uri):
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=f"--out must be a new place, but {uri} has files"):
        ExperimentFolder.create(uri, "space", PLAN, "{}")
    assert stored(place) == {"notes.txt"}


def test_a_place_that_got_files_meanwhile_is_refused_and_not_touched(folder, place):
    place.mkdir(exist_ok=True)
    (place / "plan.json").write_text("theirs")
    with pytest.raises(ConfigError, match="has files now"), folder.driven():
        pass
    assert (place / "plan.json").read_text() == "theirs"
    assert stored(place) == {"plan.json"}


def test_what_is_no_experiment_is_refused(place, uri):
    with pytest.raises(ConfigError, match="is no experiment: it has no files"):
        ExperimentFolder.open(uri)
    place.mkdir(exist_ok=True)
    (place / "a").write_text("")
    with pytest.raises(ConfigError, match="is no experiment: it has other files"):
        ExperimentFolder.open(uri)


# What is sent ---------------------------------------------------------------------------------------------------


def test_what_is_pushed_is_there_when_the_call_returns(folder, place):
    with folder.driven():
        add(folder, "study.journal", "a\n")
        add(folder, "trials/00003/metrics.jsonl", "1\n")
        folder.push(3)
        assert (place / "trials/00003/00001/metrics.jsonl").read_text() == "1\n"
        assert (place / Part(1, 0).name).read_text() == "a\n"
        before = (place / "trials/00003/00001/metrics.jsonl").stat().st_ino
        add(folder, "study.journal", "b\n")
        folder.push(3)
        assert (place / Part(1, 0).name).read_text() == "a\nb\n"
        assert (place / "trials/00003/00001/metrics.jsonl").stat().st_ino == before, "what did not change is not sent"


def test_locks_checkpoints_and_what_is_being_written_are_not_sent(folder, place):
    with folder.driven():
        for name in ("study.journal.lock", ".aside", "wandb/run/x", "trials/00001/checkpoint/a.pt"):
            add(folder, name, "x")
        folder.push(1)
    assert stored(place) == {"space.yaml", "plan.json", "schema.json"}


def test_no_decision_waits_for_a_view_which_is_sent_in_between_and_at_the_end(folder, place, monkeypatch):
    monkeypatch.setattr("mtlsearch.folder.lease.BEAT_SECONDS", 0.5)
    with folder.driven():
        add(folder, "status.json", "{}")
        folder.push()
        assert not (place / "status.json").exists()
        time.sleep(1.0)
        assert (place / "status.json").exists()
        folder.status.unlink()
        add(folder, "leaderboard.csv", "trial\n")
    assert stored(place) == {"space.yaml", "plan.json", "schema.json", "leaderboard.csv"}


def test_a_study_that_ends_a_trial_is_sent_after_the_trial(folder, place, monkeypatch):
    sent, write = [], Storage.write
    with folder.driven():
        monkeypatch.setattr(Storage, "write", lambda self, name, data: (time.sleep(0.05), sent.append(name))[1])
        add(folder, "study.journal", "a\n")
        add(folder, "trials/00003/metrics.jsonl", "1\n")
        folder.push(3, journal_last=True)
        monkeypatch.setattr(Storage, "write", write)
    assert sent == ["trials/00003/00001/metrics.jsonl", Part(1, 0).name]


def test_a_storage_that_is_lost_ends_the_search_and_is_waited_for_once(folder, monkeypatch):
    def lost(*_: object) -> None:
        tries.append(1)
        raise StorageLost("it could not be reached for 300 s")

    tries: list[int] = []
    with pytest.raises(MtlsearchError, match=r"for 300 s. When it answers, go on with: mtlsearch resume file://"):  # noqa: PT012, SIM117
        with folder.driven():
            monkeypatch.setattr(Storage, "write", lost)
            add(folder, "a.json", "1")
            try:
                folder.push()
            finally:
                folder.push()
    assert len(tries) == 1


# The journal ----------------------------------------------------------------------------------------------------


def test_the_journal_is_kept_in_parts_of_bounded_size(folder, place, uri):
    with folder.driven():
        for number in range(40):
            add(folder, "study.journal", f"{number:05d}{'x' * 9_994}\n")
            folder.push()
        sizes = [path.stat().st_size for path in sorted((place / "study.journal/00001").iterdir())]
    assert sizes == [room.PART_BYTES] * 6 + [400_000 - 6 * room.PART_BYTES]
    whole = folder.journal.read_bytes()
    assert on_another_host(uri).journal.read_bytes() == whole


def test_each_driver_has_parts_of_its_own_and_drops_those_before(folder, place, uri):
    with folder.driven():
        add(folder, "study.journal", "a\n")
    with on_another_host(uri).driven():
        assert {name for name in stored(place) if name.startswith("study")} == {Part(2, 0).name}


def test_what_a_driver_that_was_cut_off_still_writes_is_not_read(folder, place, uri):
    with folder.driven():
        add(folder, "study.journal", "a\n")
    successor = on_another_host(uri)
    with successor.driven():
        add(successor, "study.journal", "b\n")
        successor.push()
        (place / Part(1, 0).name).write_text("a\nlate\n")
    assert on_another_host(uri).journal.read_text() == "a\nb\n"


def test_neither_is_a_file_whose_sending_was_under_way(folder, place, uri):
    """Once its successor goes on with the trial; until then, it is as good as one that came in time."""
    with folder.driven():
        add(folder, "trials/00000/metrics.jsonl", "1\n")
        add(folder, "trials/00001/metrics.jsonl", "1\n")
        folder.push(0, 1)
    successor = on_another_host(uri)
    with successor.driven():
        successor.push(0)
        for number in (0, 1):
            late = place / f"trials/{number:05d}/00001/metrics.jsonl"
            late.parent.mkdir(exist_ok=True)
            late.write_text("late\n")
    again = on_another_host(uri)
    assert [again.trial(number).metrics.read_text() for number in (0, 1)] == ["1\n", "late\n"]


def test_a_driver_never_has_the_number_of_one_that_left_no_file(folder, place, uri):
    with folder.driven():
        first = (place / "driver.json").read_bytes()
    (place / "driver.json").write_bytes(first.replace(str(os.getpid()).encode(), b"4194305"))  # it was killed
    with on_another_host(uri).driven():
        assert b'"number": 2' in (place / "driver.json").read_bytes()


def test_the_parts_that_count():
    assert readable([]) == []
    assert readable([Part(1, 0), Part(1, 1), Part(2, 1)]) == [Part(1, 0), Part(1, 1)], "the second has just begun"
    assert readable([Part(1, 0), Part(2, 1), Part(2, 0)]) == [Part(2, 0), Part(2, 1)]
    assert readable([Part(1, 0), Part(1, 2)]) == [Part(1, 0)], "nothing after what is missing"
    full = b"x" * (room.PART_BYTES - 1) + b"\n"
    assert joined({0: full, 1: b"a\nb"}) == full + b"a\n", "a line that was cut off had not happened yet"
    assert joined({0: b"short\n", 1: b"a\n"}) == b"short\n"
    assert Part.parse("study.journal/00012/000003.part") == Part(12, 3)
    assert [Part.parse(name) for name in ("study.journal", "trials/00001/order.json", "study.journal/a/b.part")] == [
        None
    ] * 3


# What is fetched ------------------------------------------------------------------------------------------------


def test_another_host_gets_everything_but_checkpoints(folder, place, uri):
    with folder.driven():
        add(folder, "study.journal", "a\n")
        add(folder, "trials/00000/order.json", "{}")
        folder.trial(0).checkpoints.write("x.pt", b"weights")
        folder.push(0)
    there = on_another_host(uri)
    files = {path.relative_to(there.path).as_posix() for path in there.path.rglob("*") if path.is_file()}
    assert files == {"space.yaml", "plan.json", "schema.json", "study.journal", "trials/00000/order.json"}
    assert there.trial(0).checkpoints.read("x.pt") == b"weights"


def test_the_storage_is_the_truth(folder, place, uri):
    """Also for a host that wrote more than it could send, or less."""
    with folder.driven():
        add(folder, "trials/00000/metrics.jsonl", "1\n")
        add(folder, "study.journal", "a\n")
        folder.push(0)
    add(folder, "trials/00000/metrics.jsonl", "2\n")
    add(folder, "trials/00001/order.json", "{}")
    add(folder, "study.journal", "b\n")
    again = ExperimentFolder.open(uri)
    assert (again.path / "trials/00000/metrics.jsonl").read_text() == "1\n"
    assert again.journal.read_text() == "a\n"
    assert not (again.path / "trials/00001/order.json").exists()


def test_what_has_not_changed_is_not_fetched_again(folder, place, uri, monkeypatch):
    with folder.driven():
        add(folder, "trials/00000/order.json", "{}")
    old = time.time() - 3600
    for path in [path for path in place.rglob("*") if path.is_file()]:
        os.utime(path, (old, old))
    ExperimentFolder.open(uri)
    read, names = Storage.read, []
    monkeypatch.setattr(Storage, "read", lambda self, name: (names.append(name), read(self, name))[1])
    (place / "plan.json").write_text('{"overrides": ["a"]}')
    assert ExperimentFolder.open(uri).read_plan() == {"overrides": ["a"]}
    assert names == ["plan.json"]


def test_who_reads_on_the_drivers_own_host_sees_what_the_driver_has(folder, uri):
    with folder.driven():
        add(folder, "study.journal", "not sent yet\n")
        assert ExperimentFolder.open(uri).journal.read_text() == "not sent yet\n"


# Two drivers, wishes --------------------------------------------------------------------------------------------


def test_a_second_driver_is_refused_on_this_host_and_on_others(folder, uri, tmp_path, monkeypatch):
    with folder.driven():
        with pytest.raises(ConfigError, match=f"{uri} is being searched by process"), folder.driven():
            pass
        monkeypatch.setenv("MTLSEARCH_CACHE", str(tmp_path / "another host"))
        there = ExperimentFolder.open(uri)
        assert there.path != folder.path
        assert str(there.driver()).startswith(f"process {os.getpid()} on")
        with pytest.raises(ConfigError, match=f"{uri} is being searched by process"), there.driven():
            pass


def test_a_wish_to_stop_reaches_the_driver_from_another_host(folder, uri, tmp_path, monkeypatch):
    monkeypatch.setattr("mtlsearch.folder.lease.BEAT_SECONDS", 0.05)
    with folder.driven():
        monkeypatch.setenv("MTLSEARCH_CACHE", str(tmp_path / "another host"))
        ExperimentFolder.open(uri).ask_to_stop()
        end = time.monotonic() + 10
        while not folder.stop.exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert folder.stop.exists()
    with ExperimentFolder.open(uri).driven():
        assert not ExperimentFolder.at(uri).stop.exists(), "a wish of before"

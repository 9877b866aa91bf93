"""Small files under short names: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from mtlsearch.folder.files import FolderFiles, write_whole

KILLED = -signal.SIGKILL


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    write_whole(path, b"\xffnew")
    assert path.read_bytes() == b"\xffnew"
    write_whole(path, memoryview(b"newer"))
    assert path.read_bytes() == b"newer"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    write_whole(path, "old")

    def fail(self: Path, *_: object) -> None:
        with self.open("wb") as file:  # part of it is written already
            file.write(b"ne")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_disk_that_is_full_keeps_what_it_has(small_disk):
    files = FolderFiles(small_disk / "checkpoint")
    files.write("one", b"1" * 20_000)
    files.write("two", b"2" * 20_000)
    for name in ("one", "three"):
        with pytest.raises(OSError, match="No space left") as full:
            files.write(name, b"x" * 60_000)
        assert full.value.errno == errno.ENOSPC
    assert sorted(entry.name for entry in files.path.iterdir()) == ["one", "two"]
    assert files.read("one") == b"1" * 20_000
    files.remove("two")
    files.write("one", b"3" * 20_000)  # there is room again: nothing of the failed ones is left
    assert files.read("one") == b"3" * 20_000


def _write_on(folder: Path) -> None:
    files, content = FolderFiles(folder), [bytes([letter]) * 3_000_000 for letter in b"abc"]
    while True:
        for each in content:
            files.write("file", each)


def test_a_writer_that_is_killed_leaves_the_file_that_was_there(tmp_path):
    """Also who reads while it writes never sees a part."""
    files, draw = FolderFiles(tmp_path / "made"), random.Random(0)
    for _ in range(3):
        writer = multiprocessing.get_context("spawn").Process(target=_write_on, args=(files.path,))
        writer.start()
        while not files.names():
            time.sleep(0.01)
        for _ in range(50):
            content = files.read("file")
            assert content is not None
            assert content == content[:1] * 3_000_000
        time.sleep(0.05 * draw.random())
        writer.kill()
        writer.join()
        assert writer.exitcode == KILLED
        content = files.read("file")
        assert content is not None
        assert content == content[:1] * 3_000_000
        assert files.names() == ["file"]  # what it was at is no file


def test_a_folders_files_are_read_written_listed_and_removed(tmp_path):
    files = FolderFiles(tmp_path / "a" / "b")
    assert files.names() == []
    assert files.read("x") is None
    files.remove("x")
    files.write("x", b"1")
    files.write("y", memoryview(b"22"))
    files.write("x", b"333")
    assert sorted(files.names()) == ["x", "y"]
    assert (files.read("x"), files.read("y")) == (b"333", b"22")
    files.remove("x")
    files.remove("x")
    assert files.names() == ["y"]
    assert files.read("x") is None

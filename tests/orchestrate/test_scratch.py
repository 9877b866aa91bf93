"""Tune's folder is gone when its driver is, however that ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mtlsearch.orchestrate.scratch import scratch

KILLED = """
import os, signal
from mtlsearch.orchestrate.scratch import scratch

with scratch() as place:
    open(f"{place}/kept", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for temporary files that is nobody else's."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_it_is_gone_afterwards(temporary: Path) -> None:
    with scratch() as place:
        assert Path(place).parent == temporary
        assert Path(place).stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == []


def test_what_a_killed_driver_left_is_removed_by_the_next(temporary: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    with scratch() as place:
        assert [path.name for path in temporary.iterdir()] == [Path(place).name]
    assert not left.exists()


def test_what_is_in_use_stays(temporary: Path) -> None:
    with scratch() as ours, scratch() as theirs:
        assert Path(ours).is_dir()
        assert Path(theirs).is_dir()
        assert ours != theirs
    (temporary / "mtlsearch-tune-of-somebody").mkdir()  # without a lock it is none of ours
    with scratch():
        assert (temporary / "mtlsearch-tune-of-somebody").is_dir()

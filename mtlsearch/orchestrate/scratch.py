"""The folder that Tune insists on, nobody else's: it pickles what it keeps there.

A driver removes its own when it ends. What one that was killed left, the next driver on the host removes: the kernel
lets go of the lock of a process that ended, however it ended.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "mtlsearch-tune-"


@contextmanager
def scratch() -> Iterator[str]:
    """An empty folder in the place for temporary files; it is gone afterwards."""
    _remove_left()
    path = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = path.rename(path.with_name(path.name.removeprefix(".")))  # only now do others look at it
        try:
            yield str(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _remove_left() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if path.lstat().st_uid != os.getuid():
                continue
            with (path / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # in use; or gone, or none of ours
            continue

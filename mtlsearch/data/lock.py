"""One process at a time; the kernel lets go of the lock when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock on PATH, which is made if need be and stays (removing it would let two in)."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

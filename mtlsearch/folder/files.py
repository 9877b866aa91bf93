"""Small sets of files under short names, wherever they lie. Each is read and written whole.

What a trial needs of a storage is no more than this, so a folder, an object store and another machine's disk will do.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Protocol


def write_whole(path: Path, content: str | bytes | memoryview) -> None:
    """Writes aside, then renames: a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a write failed for want of room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def default_cache() -> Path:
    """$MTLSEARCH_CACHE, else mtlsearch/ in the platform's cache folder."""
    if chosen := os.environ.get("MTLSEARCH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mtlsearch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtlsearch"


class Files(Protocol):
    """A flat set of named files."""

    def names(self) -> list[str]:
        """Of all files that are there whole."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None when there is no such file."""

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Adds or replaces a file; readers see all of it or nothing.

        Raises:
            OSError: it cannot be written; ENOSPC when there is no room.
        """

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""


class FolderFiles:
    """The files of a folder that this host sees."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        """Of all files; what is being written is none yet."""
        if not self.path.is_dir():
            return []
        return [entry.name for entry in os.scandir(self.path) if not entry.name.startswith(".")]

    def read(self, name: str) -> bytes | None:
        """A file's content; None when there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Aside, then renamed."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / name, content)

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

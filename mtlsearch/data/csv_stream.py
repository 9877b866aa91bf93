"""The bytes of a CSV file, plain, gzipped or zipped."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Any, cast

from mtlsearch.data.progress import report
from mtlsearch.errors import ConfigError, Where

SUFFIXES = ("", ".gz", ".zip")

BUFFER = 1 << 20
"""Bytes of the file that are read at once."""


def find_csv(folder: Path, *names: str) -> Path | None:
    """The first of NAME, NAME.gz, NAME.zip that is in the folder."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def open_csv(path: Path) -> Iterator[IO[bytes]]:
    """The text's bytes. Raises ConfigError when the file is cut short, damaged or no archive of one file."""
    try:
        with _opened(path) as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"a compressed file must be whole, but reading it ended with: {error}. Fetch it again.",
            Where(path),
        ) from error
    except OSError as error:
        raise ConfigError(f"the file must be readable, but: {error.strerror or error}.", Where(path)) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with _Counted(path) as file, BufferedReader(file, BUFFER) as stream:
        if path.suffix == ".gz":
            with gzip.open(stream) as text:
                yield cast("IO[bytes]", text)
        elif path.suffix == ".zip":
            with zipfile.ZipFile(stream) as archive, archive.open(_only_member(archive)) as text:
                yield text
        else:
            yield stream


class _Counted(FileIO):
    """A file that says how much of it has been read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._stage, self._done, self._total = f"reading {path.name}", 0, path.stat().st_size

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._done += count
        report(self._stage, min(self._done, self._total), self._total, "bytes")
        return count


def _only_member(archive: zipfile.ZipFile) -> str:
    members = [name for name in archive.namelist() if not name.endswith("/")]
    if len(members) != 1:
        raise zipfile.BadZipFile(f"it holds {len(members)} files where one CSV is expected")
    return members[0]

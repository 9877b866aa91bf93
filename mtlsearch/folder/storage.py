"""An object store, or whatever else pyarrow opens by a URI, as a place for an experiment: `s3://bucket/prefix`, `gs://…`.

Secrets come from where pyarrow's own chain looks for them (environment, profile, instance role), never from the URI.
Nothing that is read here is unpickled.
"""

from __future__ import annotations

import copy
import errno
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from mtlsearch.errors import ConfigError
from mtlsearch.folder.files import Files

PATIENCE = 300.0
"""Seconds for which a storage that does not answer is asked again, with pauses that grow."""

MOST_PAUSE = 15.0
"""Between two tries, in seconds."""

MOST_AT_ONCE = 16
"""Transfers."""

Place = Path | str
"""Of an experiment: a folder of this host, or a storage's URI."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(r"secret|key|token|password|credential|signature|^sig$", re.IGNORECASE)
_ATOMIC = ("s3", "gcs")
"""Filesystems where a file appears whole when it is closed; elsewhere it is written aside and moved."""

_Result = TypeVar("_Result")


class StorageLost(OSError):
    """The storage did not take or give a file for as long as our patience lasts."""


@dataclass(frozen=True)
class Entry:
    """A file in a storage."""

    size: int
    changed: int
    """Nanoseconds since 1970, by the storage's clock; stores count in seconds or milliseconds."""


def is_uri(place: Place) -> bool:
    """Whether the place is a storage's URI and no folder of this host."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


class Storage:
    """All that is under a URI. Files have names relative to it, with slashes.

    Raises:
        ConfigError: no filesystem has this scheme, the URI has secrets in it, or names no place.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.patience = uri.rstrip("/"), PATIENCE
        self._system, self._root = _open(self.uri)
        self._atomic = self._system.type_name in _ATOMIC
        self._pool = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="storage")

    def hasty(self) -> Storage:
        """The same, asked once, where somebody waits for an answer."""
        other = copy.copy(self)
        other.patience = 0.0
        return other

    def below(self, folder: str = "") -> dict[str, Entry]:
        """Every file, or every one in a folder; what is being written is none yet."""
        from pyarrow.fs import FileSelector, FileType

        top = self._path(folder) if folder else self._root
        selector = FileSelector(top, allow_not_found=True, recursive=True)
        found = self._tried(folder, lambda: self._system.get_file_info(selector))
        start = len(self._root) + 1
        files = (info for info in found if info.type == FileType.File)
        return {
            info.path[start:]: Entry(info.size, info.mtime_ns or 0)
            for info in files
            if not info.base_name.startswith(".")
        }

    def entry(self, name: str) -> Entry | None:
        """One file's; None when it is not there."""
        from pyarrow.fs import FileType

        info = self._tried(name, lambda: self._system.get_file_info(self._path(name)))
        return Entry(info.size, info.mtime_ns or 0) if info.type == FileType.File else None

    def read(self, name: str) -> bytes | None:
        """A file's content; None when there is no such file.

        Raises:
            StorageLost: it cannot be read.
        """

        def content() -> bytes:
            with self._system.open_input_stream(self._path(name)) as stream:
                return bytes(stream.read())

        try:
            return self._tried(name, content)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Adds or replaces a file; readers see all of it or nothing.

        Raises:
            StorageLost: it cannot be written.
        """
        self._tried(name, lambda: self._put(self._path(name), content))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        with suppress(FileNotFoundError):
            self._tried(name, lambda: self._system.delete_file(self._path(name)))

    def together(self, calls: Iterable[Callable[[], None]]) -> None:
        """Makes several transfers at once, and waits for all.

        Raises:
            OSError: the first that failed.
        """
        futures = [self._pool.submit(call) for call in calls]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    def files(self, folder: str) -> Files:
        """The files of one folder in it."""
        return StorageFiles(self, folder)

    def now(self) -> int:
        """The storage's own clock, in `Entry.changed`'s unit: hosts' clocks differ. Shows too that we may write.

        Raises:
            OSError: nothing can be written.
        """
        name = f".probe-{secrets.token_hex(4)}"
        self.write(name, b"of the time; may be removed")
        entry = self.entry(name)
        self.remove(name)
        return entry.changed if entry is not None else time.time_ns()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put(self, path: str, content: bytes | memoryview) -> None:
        if self._atomic:
            self._stream(path, content)
            return
        folder, _, name = path.rpartition("/")
        aside = f"{folder}/.{name}.{secrets.token_hex(4)}"
        self._system.create_dir(folder, recursive=True)
        try:
            self._stream(aside, content)
            self._system.move(aside, path)
        except OSError:
            self._system.delete_file(aside)
            raise

    def _stream(self, path: str, content: bytes | memoryview) -> None:
        with self._system.open_output_stream(path) as stream:
            stream.write(content)

    def _tried(self, name: str, act: Callable[[], _Result]) -> _Result:
        """Tries again while our patience lasts. What failed for want of room or of the file itself is told at once."""
        start, pause = time.monotonic(), 0.5
        while True:
            try:
                return act()
            except FileNotFoundError:
                raise
            except OSError as error:
                waited = time.monotonic() - start
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                if waited + pause > self.patience:
                    tried = f" for {waited:.0f} s" if self.patience else ""
                    raise StorageLost(f"{self.uri} could not be reached{tried} ({name}: {_short(error)})") from error
                if pause == 0.5:
                    sys.stderr.write(f"mtlsearch: {self.uri} does not answer ({_short(error)}); trying again\n")
            time.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE)


class StorageFiles:
    """The files of one folder of a storage: `mtlsearch.folder.files.Files`."""

    def __init__(self, storage: Storage, folder: str) -> None:
        self._storage, self._folder = storage, folder

    def names(self) -> list[str]:
        """Of all files that are there whole."""
        return [name.rpartition("/")[2] for name in self._storage.below(self._folder)]

    def read(self, name: str) -> bytes | None:
        """See `Storage.read`."""
        return self._storage.read(f"{self._folder}/{name}")

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Storage.write`."""
        self._storage.write(f"{self._folder}/{name}", content)

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        self._storage.remove(f"{self._folder}/{name}")


def check_usable(storage: Storage) -> None:
    """Tries what an experiment needs of a storage, with one small file that is removed at once.

    Raises:
        ConfigError: there is no such bucket, no credentials, no permission, or no answer.
    """
    try:
        storage.now()
    except OSError as error:
        raise unusable(storage, error) from error


def unusable(storage: Storage, error: OSError) -> ConfigError:
    """What a user reads when a storage cannot be used."""
    return ConfigError(
        f"{storage.uri} must be a place that you may read and write, but: {_short(error.__cause__ or error)}. See that "
        "the bucket exists, and that credentials for it are in the environment, a profile or the machine's role."
    )


def _open(uri: str) -> tuple[Any, str]:
    """pyarrow's filesystem, and the path in it."""
    _refuse_secrets(uri)
    scheme, colon, rest = uri.partition("://")
    if scheme.lower() == "s3" and "allow_delayed_open" not in rest:  # a small file is one request, not three
        uri += ("&" if "?" in rest else "?") + "allow_delayed_open=true"
    from pyarrow.fs import FileSystem

    try:
        system, root = FileSystem.from_uri(uri)
    except (OSError, ValueError, ImportError) as error:  # ArrowInvalid is a ValueError
        reason = _short(error).replace(uri, "")
        raise ConfigError(
            f"{scheme}{colon}{rest} must be a URI that pyarrow opens (s3://bucket/prefix, gs://bucket/prefix, "
            f"file:///folder), but: {reason}"
        ) from error
    root = root.rstrip("/")
    if not root:
        raise ConfigError(f"{scheme}{colon}{rest} must name a place: s3://bucket/prefix.")
    return system, root


def _refuse_secrets(uri: str) -> None:
    parts = urlsplit(uri)
    login = parts.netloc.rpartition("@")[0]
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
    if ":" in login or (login and parts.scheme.lower() == "s3") or named:
        found = f"{', '.join(named)} in its query" if named else "a login before its @"
        raise ConfigError(
            f"{parts.scheme}://…{parts.netloc.rpartition('@')[2]}{parts.path} must have no secrets in it, but has "
            f"{found}: it would be written into logs. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile "
            "or the machine's role instead."
        )


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]

"""What names a store: the content of the source's files, its options, and the code that reads them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mtlsearch.config.data import DataConfig
from mtlsearch.data.sources import tasks_of
from mtlsearch.errors import ConfigError, Where

FORMAT = 2
"""Counts up whenever the files of a store, or the encoders, change."""

_SETTLED = 2.0
"""Seconds. A file this old cannot change again within the same time stamp, so its hash may be remembered."""


def digest_of(config: DataConfig, version: int, files: Sequence[Path], memory: Path) -> str:
    """16 hex digits; the same for the same content wherever it lies.

    Args:
        config: its options count, its path does not.
        version: of the source's code.
        files: what the source reads.
        memory: a folder that remembers the hashes of files that have not changed since.
    """
    parts = {
        "format": FORMAT,
        "version": version,
        "options": config.model_dump(mode="json", exclude={"path", "tasks"}),
        "tasks": [task.model_dump(mode="json") for task in tasks_of(config)],
        "files": [content_hash(file, memory) for file in files],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(path: Path, memory: Path) -> str:
    """sha256 of the file, read again only when its size, times or inode differ from what was remembered."""
    resolved = path.resolve()
    note = memory / f"{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:32]}.json"
    stamp = _stamp(resolved)
    remembered = _remembered(note)
    if remembered.get("stamp") == stamp:
        return str(remembered["sha256"])
    digest = _sha256(path)
    if _stamp(resolved) == stamp and time.time() - max(stamp[1:3]) / 1e9 > _SETTLED:
        write_whole(note, json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def write_whole(path: Path, text: str) -> None:
    """Writes aside, then renames, so that nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"the file must be readable, but: {error.strerror}.", Where(path)) from error


def _remembered(note: Path) -> dict[str, object]:
    try:
        remembered = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}

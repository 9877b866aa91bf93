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

FORMAT = 3
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
        "files": content_hashes(files, memory),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def content_hashes(files: Sequence[Path], memory: Path) -> list[str]:
    """sha256 of each file, read again only when its size, times or inode differ from what was remembered.

    One note for all of them: a source may have a file for each of 40,000 stays.
    """
    resolved = [file.resolve() for file in files]
    names = b"\0".join(map(os.fsencode, resolved))
    note = memory / f"{hashlib.sha256(names).hexdigest()[:32]}.json"
    stamps = [_stamp(path) for path in resolved]
    before = _remembered(note)
    known = before.get("sha256") if before.get("stamps") == stamps else None
    if isinstance(known, list):
        return [str(digest) for digest in known]
    digests = [_sha256(path) for path in resolved]
    latest = max((max(stamp[1:3]) for stamp in stamps), default=0)
    if [_stamp(path) for path in resolved] == stamps and time.time() - latest / 1e9 > _SETTLED:
        write_whole(note, json.dumps({"stamps": stamps, "sha256": digests}))
    return digests


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

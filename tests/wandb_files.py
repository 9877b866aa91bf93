"""Reads W&B's offline files: 7 bytes of header, then LevelDB's log format, in which every record is W&B's own message.

wandb has no public reader in Python; the messages are decoded with its own classes.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768


def current_files(folder: Path) -> list[Path]:
    """The offline files that `wandb sync` would send."""
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.name)
    return [path for path in files if not path.with_name(path.name + ".synced").exists()]


def finished(path: Path, seconds: float = 30.0) -> list[Any]:
    """The records of a run that has ended; wandb's own process may still be writing the last ones."""
    deadline = time.monotonic() + seconds
    while True:
        records = list(whole_records(path))
        if any(record.HasField("exit") for record in records):
            return records
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)


def whole_records(path: Path) -> Iterator[Any]:
    """The records that are written whole; a last one that is being written is not one of them."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    if len(data) >= 4:
        assert data[:4] == b":W&B"
    while at < len(data):
        if (left := BLOCK - at % BLOCK) < 7:  # too short for a fragment's head
            at += left
            continue
        if at + 7 > len(data):
            return
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if at + 7 + length > len(data):
            return
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last fragment of one
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(records: list[Any]) -> list[dict[str, Any]]:
    """A line an epoch; `_step` is kept, W&B's other own keys are not."""
    lines = [values(record.history.item) for record in records if record.HasField("history")]
    return [{key: line[key] for key in line if key == "_step" or not key.startswith("_")} for line in lines]


def summary(records: list[Any]) -> dict[str, Any]:
    """As the run left it."""
    found: dict[str, Any] = {}
    for record in records:
        found |= values(record.summary.update)
    return found


def values(items: Any) -> dict[str, Any]:
    """Key → value of a history item, a summary or a config."""
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}

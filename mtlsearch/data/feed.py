"""How a store gets into trials: held in memory, or streamed from its files. Decided without torch, for the driver."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtlsearch.config.budget import ResourcesConfig
from mtlsearch.data.arrow import rows_path, steps_path
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.store import Store

FeedKind = Literal["memory", "stream"]

MAPPED_SHARE = 1 / 8
"""Of the machine's memory: a store up to that is mapped whole. Its pages are shared by all trials of the machine,
but a random order touches all of them, and if they do not stay in memory every batch waits for the disk."""

DEVICE_SHARE = 1 / 2
"""Of a trial's share of its GPU: a store up to that is moved there. The rest is the model's."""

WINDOW_BYTES = 128 << 20
"""Rows that a streaming trial shuffles at a time, over all its ranks; as many again are read ahead."""


@dataclass(frozen=True)
class FeedChoice:
    """What was decided, and a sentence that says so."""

    kind: FeedKind
    sentence: str


def choose_feed(store: Store, resources: ResourcesConfig) -> FeedChoice:
    """What trials on a machine like this one will do, for the driver to print.

    A trial on a GPU decides when it sees its GPU, since the driver may have none.
    """
    size, wanted = store_bytes(store), resources.feed
    if wanted == "auto" and resources.gpus_per_worker > 0:
        return FeedChoice("memory", f"{in_bytes(size)}, on each trial's GPU where it fits, else streamed")
    if wanted == "stream" or (wanted == "auto" and size > MAPPED_SHARE * machine_bytes()):
        return FeedChoice("stream", streamed(size))
    if resources.gpus_per_worker > 0:
        return FeedChoice("memory", f"in memory, {in_bytes(size)} on each trial's GPU")
    return FeedChoice("memory", f"in memory, {in_bytes(size)} mapped")


def streamed(size: int) -> str:
    """The sentence of a store of so many bytes that is streamed."""
    return f"streamed: {in_bytes(size)} in windows of {in_bytes(WINDOW_BYTES)}"


def store_bytes(store: Store) -> int:
    """Of the files of all splits."""
    paths = [path for name in SPLITS for path in (rows_path(store.folder, name), steps_path(store.folder, name))]
    return sum(path.stat().st_size for path in paths if path.exists())


def machine_bytes() -> int:
    """Memory that this process may use: the machine's, or what its container (cgroup) allows."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([whole, *_cgroup_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def in_bytes(size: float) -> str:
    """`4.1 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"


def _cgroup_limits(root: Path, own: Path) -> list[int]:
    """Limits of this process's control group and of those around it (version 2, then version 1)."""
    if not own.exists():
        return []
    limits = []
    for line in own.read_text().splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        home, file = (root, "memory.max") if controllers == "" else (root / "memory", "memory.limit_in_bytes")
        group = home / inside.lstrip("/")
        # A container may see its own group as the root, under a name from outside that does not exist here.
        for folder in {home, group, *(parent for parent in group.parents if parent.is_relative_to(home))}:
            text = (folder / file).read_text().strip() if (folder / file).is_file() else "max"
            limits += [int(text)] if text.isdigit() else []
    return limits

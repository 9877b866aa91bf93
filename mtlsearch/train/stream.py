"""Splits that are read from their files window by window, while the window before is trained on.

A window is many chunks of neighbouring rows from all over the file, so a batch is nearly as mixed as one of a whole
permutation, and reading is in pieces of a megabyte. Rows are read into buffers and not mapped: mapped pages would stay
in memory until the machine has none left.

Axes: N rows of a part of a window, R parts (as many as ranks there may be), X parts of this rank, B rows of a part of
a batch, M steps.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from mtlsearch.data.columns import SplitName
from mtlsearch.data.extents import SplitExtents
from mtlsearch.data.feed import WINDOW_BYTES
from mtlsearch.train.block import Block
from mtlsearch.train.distributed import World
from mtlsearch.train.feed import Picks
from mtlsearch.train.order import bucketed, in_order, shuffled
from mtlsearch.train.window import Buffers, WindowReader

CHUNKS = 128
"""Chunks of a window."""


@dataclass(frozen=True)
class StreamFeed:
    """Windows of files. Every chunk has R equal parts, and so has a batch: up to R − 1 rows of an epoch are left out,
    others each time. A rank reads the parts that are its own, one where there are R ranks.
    """

    files: Mapping[SplitName, SplitExtents]
    description: str
    window_bytes: int = WINDOW_BYTES
    """Over all ranks."""

    def num_rows(self, split: SplitName) -> int:
        """N."""
        return self.files[split].rows.num_rows

    def epoch(self, generator: torch.Generator, batch_size: int, world: World, most_steps: int) -> Picks:
        """A window's rows make batches of equal size, so none is left with a handful."""
        parts, own = world.num_parts, own_parts(world)
        for window in self._windows("train", self._scattered(generator, parts), world):
            num_rows = window.block.num_rows // len(own)
            if window.length_RN is not None:
                length_RN = window.length_RN.clamp(max=most_steps)
                for rows_RB in bucketed(length_RN, batch_size, parts, generator):
                    yield window.block, dealt(rows_RB[list(own)], num_rows).to(world.device)
                continue
            order_N = shuffled(num_rows, generator)
            for rows_B in order_N.tensor_split(-(-num_rows // max(1, batch_size // parts))):
                yield window.block, dealt(rows_B.expand(len(own), -1), num_rows).to(world.device)

    def windows(self, generator: torch.Generator, world: World) -> Generator[Block, None, None]:
        """Every rank reads all of every window, so R ranks read each row R times: none can tell others' labels."""
        for window in self._windows("train", self._scattered(generator, 1), World(device=world.device)):
            yield window.block

    @property
    def whole(self) -> Block | None:
        """They may not fit."""
        return None

    def ordered(self, split: SplitName, batch_size: int, world: World, most_steps: int) -> Picks:
        """This rank's piece of the file, from its start to its end."""
        alone = World(device=world.device)
        for window in self._windows(split, self._piece(split, world), alone):
            length_N = None if window.length_RN is None else window.length_RN[0].clamp(max=most_steps)
            for rows in in_order(window.block.num_rows, length_N, batch_size, world.size):
                # Indices, not a slice: a batch outlives its window, so it must be a copy.
                rows_B = torch.arange(window.block.num_rows)[rows] if isinstance(rows, slice) else rows
                yield window.block, rows_B.to(world.device)

    def _scattered(self, generator: torch.Generator, ranks: int) -> Iterator[list[range]]:
        """All chunks in random order, in windows of about as many."""
        num_rows, size = self.num_rows("train"), self._chunk_rows("train", ranks)
        order = shuffled(-(-num_rows // size), generator)
        for chosen in order.tensor_split(-(-len(order) // CHUNKS)):
            yield [range(start, min(start + size, num_rows)) for start in (chosen.long() * size).tolist()]

    def _piece(self, split: SplitName, world: World) -> Iterator[list[range]]:
        first, end = (self.num_rows(split) * rank // world.size for rank in (world.rank, world.rank + 1))
        size = CHUNKS // 4 * self._chunk_rows(split, 1)
        return ([range(start, min(start + size, end))] for start in range(first, end, size))

    def _chunk_rows(self, split: SplitName, ranks: int) -> int:
        """A multiple of the ranks, so that only the file's last chunk leaves rows out."""
        files = self.files[split]
        row_bytes = max(1, files.num_bytes // max(1, files.rows.num_rows))
        return max(1, self.window_bytes // CHUNKS // row_bytes // ranks) * ranks

    def _windows(self, split: SplitName, windows: Iterable[list[range]], world: World) -> Iterator[_Window]:
        """Each window on the device, the next one being read. Ends its thread in whatever way it is left."""
        pinned = world.device.type == "cuda"
        turns = cycle((Buffers(pinned), Buffers(pinned)))
        reader = WindowReader(self.files[split], own_parts(world), world.num_parts)
        thread, ahead = ThreadPoolExecutor(1, "mtlsearch-read"), None
        try:
            for chunks in windows:
                buffers = next(turns)
                following = buffers, thread.submit(reader.read, chunks, buffers)
                if ahead is not None:
                    yield from _placed(*ahead, world)
                ahead = following
            if ahead is not None:
                yield from _placed(*ahead, world)
        finally:
            thread.shutdown(cancel_futures=True)
            reader.close()


def own_parts(world: World) -> range:
    """Which of a window's parts this rank has."""
    return range(world.rank, world.num_parts, world.size)


def dealt(rows_XB: Tensor, num_rows: int) -> Tensor:
    """Rows of parts that lie one behind the other, `num_rows` each, in the order in which they are dealt to ranks."""
    return (rows_XB + num_rows * torch.arange(len(rows_XB), dtype=rows_XB.dtype)[:, None]).T.flatten()


class _Window(NamedTuple):
    block: Block
    length_RN: Tensor | None


def _placed(buffers: Buffers, read: Future[tuple[Block, Tensor | None]], world: World) -> Iterator[_Window]:
    """The window on the device, unless no rank has a row of it."""
    block, length_RN = read.result()
    if block.num_rows:
        yield _Window(buffers.moved(block, world.device), length_RN)

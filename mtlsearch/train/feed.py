"""Where batches' rows come from: whole splits in memory here, windows of files in `stream`.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from mtlsearch.config import ResourcesConfig
from mtlsearch.data import Store
from mtlsearch.data.columns import SplitName
from mtlsearch.data.feed import DEVICE_SHARE, FeedChoice, choose_feed, in_bytes, store_bytes, streamed
from mtlsearch.train.block import Block
from mtlsearch.train.distributed import World
from mtlsearch.train.order import Rows, bucketed, in_order, shuffled

Pick = tuple[Block, Rows]
"""A batch: these rows of that block."""

Picks = Generator[Pick, None, None]

Wanted = Literal["auto", "memory", "stream"]
"""`resources.feed`."""


class Feed(Protocol):
    """Blocks on a device, and which of their rows make the batches of this rank.

    `most_steps`: steps of a sequence beyond which a batch has nothing of it.
    """

    @property
    def description(self) -> str:
        """How the data is held, for people."""

    def num_rows(self, split: SplitName) -> int:
        """N."""

    def epoch(self, generator: torch.Generator, batch_size: int, world: World, most_steps: int) -> Picks:
        """The training rows in random order, `batch_size` over all ranks; as many batches on every rank."""

    def windows(self, generator: torch.Generator, world: World) -> Generator[Block, None, None]:
        """All training rows in blocks that are whole on every rank: for who chooses rows by their labels."""

    @property
    def whole(self) -> Block | None:
        """The training rows when they are one block, else None."""

    def ordered(self, split: SplitName, batch_size: int, world: World, most_steps: int) -> Picks:
        """This rank's share of a split, every row once; other ranks may have more batches or fewer."""


@dataclass(frozen=True)
class MemoryFeed:
    """Whole splits. Batches are those of one rank, dealt: rank r has their rows r, r + size, …"""

    blocks: Mapping[SplitName, Block]
    description: str

    def num_rows(self, split: SplitName) -> int:
        """N."""
        return self.blocks[split].num_rows

    def epoch(self, generator: torch.Generator, batch_size: int, world: World, most_steps: int) -> Picks:
        """A last batch with fewer rows than there may be ranks is left out: a rank without rows has no part in it."""
        block = self.blocks["train"]
        if block.lengths is None:
            batches = iter(torch.split(shuffled(block.num_rows, generator).to(world.device), batch_size))
        else:
            length_1N = block.lengths.cpu().clamp(max=most_steps)[None]
            batches = (rows_1B[0] for rows_1B in bucketed(length_1N, batch_size, world.num_parts, generator))
        for rows_B in batches:
            if len(rows_B) >= world.num_parts:
                yield block, rows_B[world.rank :: world.size].to(world.device)

    def windows(self, generator: torch.Generator, world: World) -> Generator[Block, None, None]:
        """One."""
        yield self.blocks["train"]

    @property
    def whole(self) -> Block | None:
        """It is."""
        return self.blocks["train"]

    def ordered(self, split: SplitName, batch_size: int, world: World, most_steps: int) -> Picks:
        """A table's share is one piece; of sequences every size-th by length, so that all ranks have as much to do."""
        block = self.blocks[split]
        if block.lengths is None:
            first, end = (block.num_rows * rank // world.size for rank in (world.rank, world.rank + 1))
            for rows in in_order(end - first, None, batch_size, world.size):
                assert isinstance(rows, slice)
                yield block, slice(first + rows.start, min(first + rows.stop, end))
            return
        length_N, by_length_N = block.lengths.cpu().clamp(max=most_steps).sort(descending=True, stable=True)
        mine = by_length_N[world.rank :: world.size]
        for rows in in_order(len(mine), length_N[world.rank :: world.size], batch_size, world.size):
            yield block, mine[rows].to(world.device)


def choose(store: Store, device: torch.device, wanted: Wanted, gpu_share: float) -> FeedChoice:
    """What the space file says, or what fits: into the machine's memory, or into this trial's share of its GPU."""
    size = store_bytes(store)
    if device.type == "cpu":
        return choose_feed(store, ResourcesConfig(feed=wanted))
    free, total = torch.cuda.mem_get_info(device)
    room = DEVICE_SHARE * min(free, total * gpu_share)
    if wanted == "stream" or (wanted == "auto" and size > room):
        return FeedChoice("stream", streamed(size))
    return FeedChoice("memory", f"in memory, {in_bytes(size)} on {device}")

"""The contract of ways to make an epoch's batches, and those that serve all tasks with each.

What a way decides follows from (the trial's seed, epoch, step) and its `state_dict`, alike on every rank. Where rows
are chosen by their labels, it is in blocks that every rank has whole, and then they are dealt: with R ranks a batch
has the rows that it has with one. Of a store that is streamed, an index of all rows by label may not fit: they are
chosen within a window, and passes over them begin anew with each.

Axes: N rows of a block, B rows of a batch, R rare classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtlsearch.balancing import Losses
from mtlsearch.config import StratifiedConfig
from mtlsearch.records import derive_seed
from mtlsearch.train.block import Block
from mtlsearch.train.distributed import World
from mtlsearch.train.order import bucketed
from mtlsearch.train.strata import rarest, stratified
from mtlsearch.train.take import take
from mtlsearch.train.tensors import Batches, TensorData


class Sampling(ABC):
    """How an epoch's batches are made."""

    def __init__(self, data: TensorData, world: World) -> None:
        self._data, self._world = data, world

    @abstractmethod
    def epoch(
        self, epoch: int, generator: torch.Generator, batch_size: int, replication: float = 0.0, skip: int = 0
    ) -> Batches:
        """This rank's part of an epoch's batches, as `TensorData.epoch`; close it when you leave it before its end."""

    def observe(self, losses: Losses) -> None:  # noqa: B027 - most do not ask
        """After each step, on all ranks: what it saw, before the next batch is asked for."""

    def after_epoch(self, objective: float | None) -> None:  # noqa: B027 - most do not ask
        """After each epoch, on all ranks: the objective on validation; None where it is not known."""

    def metrics(self) -> dict[str, dict[str, float]]:
        """Of the epoch, by task, where a way chooses: `share` of its steps, and `weight` at its end, in none of which
        is a task that was dropped; or share of rows with a `rare` class."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial needs, also in the middle of an epoch; plain types and tensors. Rank 0's serves all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        assert not state, f"{type(self).__name__} keeps no state, but was given {sorted(state)}"


class Joint(Sampling):
    """Every row once an epoch."""

    def epoch(
        self, epoch: int, generator: torch.Generator, batch_size: int, replication: float = 0.0, skip: int = 0
    ) -> Batches:
        """As the data gives them."""
        return self._data.epoch(generator, batch_size, self._world, replication, skip)


class Stratified(Sampling):
    """A least share of rows that have a rare class; as many batches as `Joint`. Weights are not changed."""

    def __init__(self, config: StratifiedConfig, data: TensorData, world: World) -> None:
        super().__init__(data, world)
        self._share = config.share
        self._num_rows, self._num_rare = 0, Counter[str]()

    def epoch(
        self, epoch: int, generator: torch.Generator, batch_size: int, replication: float = 0.0, skip: int = 0
    ) -> Batches:
        """Which classes are rare is asked of each block anew."""
        targets, world, step = self._data.targets, self._world, 0
        self._num_rows, self._num_rare = 0, Counter()
        for block, length_N, num_steps, seed in whole_blocks(self._data, world, generator, batch_size):
            rare, draw = self._rare(block), torch.Generator().manual_seed(seed)
            batches = stratified(rare.has_NR, rare.part, length_N, batch_size, world.num_parts, draw)
            for rows_B in islice(batches, num_steps):
                self._count(rare, rows_B)
                if step >= skip:
                    yield take(targets, block, dealt(rows_B, world), replication)
                step += 1

    def metrics(self) -> dict[str, dict[str, float]]:
        """Of the epoch, whole batches: by task, share of rows with a class that is rare."""
        return {"rare": {name: count / self._num_rows for name, count in self._num_rare.items()}}

    def _count(self, rare: Rare, rows_B: Tensor) -> None:
        """Also a step that is skipped, so that a resumed epoch counts as a whole one does."""
        self._num_rows += len(rows_B)
        has_BR = rare.has_NR.index_select(0, rows_B)
        for name, columns in rare.columns.items():
            self._num_rare[name] += int(has_BR[:, columns].any(1).sum())

    def _rare(self, block: Block) -> Rare:
        """Of a whole split found once."""
        return self._of_whole if self._data.feed.whole is not None else self._found(block)

    @cached_property
    def _of_whole(self) -> Rare:
        assert self._data.feed.whole is not None
        return self._found(self._data.feed.whole)

    def _found(self, block: Block) -> Rare:
        rarer = [each for each in self._data.targets.classes(block) if each.rate < self._share]
        chosen, part = rarest([each.rate for each in rarer], self._share)
        columns: dict[str, list[int]] = {}
        for column, index in enumerate(chosen):
            columns.setdefault(rarer[index].task.name, []).append(column)
        has = [rarer[index].has_N.cpu() for index in chosen]
        has_NR = torch.stack(has, dim=1) if has else torch.zeros(block.num_rows, 0, dtype=torch.bool)
        return Rare(has_NR, part, columns)


class Rare(NamedTuple):
    """A block's R rare classes, the rarest first."""

    has_NR: Tensor
    """bool, on the CPU: which rows have them."""
    part: float
    """Least share of a batch's rows for each."""
    columns: Mapping[str, Sequence[int]]
    """Task → which of them are its."""


class WholeBlock(NamedTuple):
    """A block that every rank has whole."""

    block: Block
    length_N: Tensor | None
    """On the CPU: steps of each sequence up to where nothing more is predicted; None for a table."""
    num_steps: int
    """Batches that `Joint` would make of it."""
    seed: int
    """For the order of its rows."""


def whole_blocks(data: TensorData, world: World, generator: torch.Generator, batch_size: int) -> Iterator[WholeBlock]:
    """An epoch's training rows."""
    start = generator.clone_state()
    seed = int(torch.randint(1 << 62, (), generator=generator))
    for number, block in enumerate(data.feed.windows(generator, world)):
        length_N = None if block.lengths is None else block.lengths.cpu().clamp(max=data.targets.most_steps)
        if length_N is None:
            whole, rest = divmod(block.num_rows, batch_size)
            num_steps = (whole if batch_size >= world.num_parts else 0) + (rest >= world.num_parts)
        else:
            num_steps = sum(1 for _ in bucketed(length_N[None], batch_size, world.num_parts, start.clone_state()))
        yield WholeBlock(block, length_N, num_steps, derive_seed(seed, number))


def dealt(rows_B: Tensor, world: World) -> Tensor:
    """This rank's rows of a batch."""
    return rows_B[world.rank :: world.size].to(world.device)

"""Batches in which rare classes have a least share of the rows.

A batch is first any: the next rows of a pass over all. Where it has too few rows with a rare class, others with that
class come in, from a pass over those that have it, for rows that have none. So common classes are never made rare, a
row without a rare class comes at most once in a pass, and one that has one may come again, but not in the same batch.

Axes: N rows of a block, B rows of a batch, R rare classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import torch
from torch import Tensor

from mtlsearch.train.order import MOST_STEPS, shuffled


def rarest(rates: Sequence[float], share: float) -> tuple[list[int], float]:
    """Which classes a share of each batch is reserved for, the rarest first, and the part of a batch for each.

    The part is as large as it can be while all classes that are rarer than it take no more than the share together:
    equal for all of them, and none comes before another that was more frequent.

    Args:
        rates: of classes, each below the share.
    """
    order = sorted(range(len(rates)), key=lambda index: rates[index])
    ceiling = share
    while order and rates[order[-1]] >= share / len(order):  # has its part without
        ceiling = rates[order.pop()]
    return order, min(ceiling, share / max(1, len(order)))


def stratified(
    has_NR: Tensor, part: float, length_N: Tensor | None, batch_size: int, ranks: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """rows_B of one batch after the other, without end, in random order. No batch has a row twice.

    A class that has fewer rows than its part of a batch gives all of them to each, so that a batch has less of it. A
    row with several counts for each. Batches of sequences are not sorted by length, and long ones are cut in pieces.

    Args:
        has_NR: bool, on the CPU: which rows have which class, the rarest first.
        part: of a batch's rows, for each class.
        length_N: steps of each row; None for a table.
    """
    num_rows, num_rare = has_NR.shape
    filler, reserved = _Filler(has_NR, generator), 0
    while True:
        for base_B in torch.split(shuffled(num_rows, generator), max(batch_size, ranks)):
            if len(base_B) < ranks:
                continue
            total = ceil(num_rare * part * len(base_B) - 1e-9)
            # a row that cannot be divided goes to another class in the next batch
            turns = torch.arange(reserved, reserved + total) % max(1, num_rare)
            reserved += total
            rows_B = filler(base_B, turns.bincount(minlength=num_rare).tolist())
            for piece_B in _pieces(rows_B, length_N, ranks):
                yield piece_B[torch.randperm(len(piece_B), generator=generator)]


class _Filler:
    """Brings into a batch what it lacks."""

    def __init__(self, has_NR: Tensor, generator: torch.Generator) -> None:
        self._has_NR = has_NR
        self._inside_N = torch.zeros(len(has_NR), dtype=torch.bool)
        """Which rows are in the batch."""
        self._pools = [_Pool(has_N.nonzero().squeeze(1).int(), generator) for has_N in has_NR.unbind(1)]

    def __call__(self, base_B: Tensor, quota: Sequence[int]) -> Tensor:
        """As many rows, of each class at least its quota: first those that fill a quota, class by class, then others
        with a rare class, then those that have none, of which the last give way."""
        self._inside_N[base_B] = True
        has_BR = self._has_NR.index_select(0, base_B)
        free_B, chosen = torch.ones(len(base_B), dtype=torch.bool), base_B[:0]
        for rare, wanted in enumerate(quota):
            lacking = max(0, wanted - self._count(chosen, rare))
            own = (has_BR[:, rare] & free_B).nonzero().squeeze(1)[:lacking]
            free_B[own] = False
            chosen = torch.cat([chosen, base_B[own]])
            chosen = torch.cat([chosen, self._drawn(rare, lacking - len(own), chosen)])
        others = free_B.nonzero().squeeze(1)
        others = others[(~has_BR[others].any(1)).sort(stable=True).indices]
        self._inside_N[base_B] = self._inside_N[chosen] = False
        return torch.cat([chosen, base_B[others]])[: len(base_B)]

    def _drawn(self, rare: int, lacking: int, chosen: Tensor) -> Tensor:
        """From outside the batch, whose rows with the class have all been chosen if any are lacking."""
        pool = self._pools[rare]
        return pool.draw(min(lacking, len(pool) - self._count(chosen, rare)) if lacking else 0, self._inside_N)

    def _count(self, rows: Tensor, rare: int) -> int:
        return int(self._has_NR[:, rare].index_select(0, rows).sum())


class _Pool:
    """Rows with a class, shuffled and gone through pass by pass."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self._rows, self._generator, self._left = rows, generator, rows[:0]

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, count: int, inside_N: Tensor) -> Tensor:
        """The next that are not inside, as many as asked for; they are inside then."""
        drawn = self._rows[:0]
        while len(drawn) < count:
            if len(self._left) == 0:
                self._left = self._rows.index_select(0, shuffled(len(self._rows), self._generator))
            cut = count - len(drawn)
            some, self._left = self._left[:cut], self._left[cut:]
            new = some[~inside_N.index_select(0, some)]
            inside_N[new] = True
            drawn = torch.cat([drawn, new])
        return drawn


def _pieces(rows_B: Tensor, length_N: Tensor | None, ranks: int) -> Iterator[Tensor]:
    """The rows in as many batches as their steps need; each has its part of all that lie together."""
    count = 1
    if length_N is not None:
        padded = len(rows_B) * int(length_N.index_select(0, rows_B).max())
        count = max(1, min(-(-padded // MOST_STEPS), len(rows_B) // ranks))
    yield from (rows_B[piece::count] for piece in range(count))

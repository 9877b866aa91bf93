"""Runs of sequences whose steps fit into memory together.

Axes: N sequences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlsearch.data.columns import Ints

CELLS = 1 << 20
"""Steps times variables of a block; a cell takes some 40 bytes while it is worked on."""


def blocks(length_N: Ints, num_variables: int) -> list[tuple[int, int]]:
    """First sequence and the one after the last, of each block; a sequence that is too long is one by itself.

    Args:
        length_N: steps (or rows, where those are more) of each sequence.
        num_variables: of each step.
    """
    import numpy as np

    end_N = np.cumsum(length_N)
    found, first = [], 0
    while first < len(length_N):
        before = int(end_N[first - 1]) if first else 0
        limit = before + CELLS // max(num_variables, 1)
        stop = max(int(np.searchsorted(end_N, limit, side="right")), first + 1)
        found.append((first, stop))
        first = stop
    return found

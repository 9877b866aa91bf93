"""Rows, or groups of them, shared out among the three splits.

Axes: N rows of the table, G groups, E edges between groups in their order (where a split may end).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mtlsearch.config.table import FractionsConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Codes: TypeAlias = "NDArray[np.int8]"
"""int8 [N]: index into SPLITS, or of a stratum."""


def at_random(stratum_N: Codes, fractions: FractionsConfig) -> Codes:
    """Every stratum's rows in the order of the seed, cut at the shares."""
    import numpy as np

    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    random = np.random.RandomState(fractions.seed)
    split_N = np.zeros(len(stratum_N), np.int8)
    for stratum in np.unique(stratum_N):
        rows = np.flatnonzero(stratum_N == stratum)
        random.shuffle(rows)
        first, second = _ideal(len(rows), fractions)
        split_N[rows[first:second]] = 1
        split_N[rows[second:]] = 2
    return split_N


def by_time(time_N: NDArray[np.generic], fractions: FractionsConfig) -> Codes | None:
    """Ascending, equal times together; None when there are fewer than three different ones."""
    import numpy as np

    sorted_N = np.sort(time_N)
    cuts = _cuts(np.flatnonzero(sorted_N[1:] != sorted_N[:-1]) + 1, len(time_N), fractions)
    if cuts is None:
        return None
    split_N: Codes = (time_N >= sorted_N[cuts[0]]).astype(np.int8) + (time_N >= sorted_N[cuts[1]])
    return split_N


def by_group(
    group_N: NDArray[np.int32], fractions: FractionsConfig, time_N: NDArray[np.generic] | None = None
) -> Codes | None:
    """Whole groups, in the order of the seed or of their earliest times; None when there are fewer than three."""
    import numpy as np

    size_G = np.bincount(group_N)
    if time_N is None:
        order_G = np.random.RandomState(fractions.seed).permutation(len(size_G))
    else:
        earliest_G = np.full(len(size_G), time_N.max(), time_N.dtype)
        np.minimum.at(earliest_G, group_N, time_N)
        order_G = np.argsort(earliest_G, kind="stable")
    edges_E = np.cumsum(size_G[order_G])
    cuts = _cuts(edges_E[:-1], len(group_N), fractions)
    if cuts is None:
        return None
    split_G = np.empty(len(size_G), np.int8)
    split_G[order_G] = (edges_E > cuts[0]).astype(np.int8) + (edges_E > cuts[1]).astype(np.int8)
    split_N: Codes = split_G[group_N]
    return split_N


def _ideal(num_rows: int, fractions: FractionsConfig) -> tuple[int, int]:
    """Where train and validation would end."""
    return round(fractions.train * num_rows), round((fractions.train + fractions.validation) * num_rows)


def _cuts(edges_E: NDArray[np.int64], num_rows: int, fractions: FractionsConfig) -> tuple[int, int] | None:
    """The edges nearest to the ideal ends, such that every split has a group; None without two edges."""
    if len(edges_E) < 2:
        return None
    first, second = _ideal(num_rows, fractions)
    i = _nearest(edges_E[:-1], first)
    j = i + 1 + _nearest(edges_E[i + 1 :], second)
    return int(edges_E[i]), int(edges_E[j])


def _nearest(edges_E: NDArray[np.int64], ideal: int) -> int:
    import numpy as np

    after = int(np.searchsorted(edges_E, ideal))
    if after == len(edges_E) or (after > 0 and ideal - edges_E[after - 1] < edges_E[after] - ideal):
        return after - 1
    return after

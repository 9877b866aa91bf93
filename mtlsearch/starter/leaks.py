"""Columns that predict a label all by themselves: most often the label's own trace, not a finding.

Every column is cut into groups (its values, or a hundred ranges of them, and "missing"); each half of the rows is
predicted by what the other half's groups hold, so that a column with a value a row does not look like an oracle.

Axes: N rows, G groups, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config import TaskKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Groups = NDArray[np.int64]
    Floats = NDArray[np.float64]

SUSPECT = 0.995
"""AUROC (for a regression R²) above which a column alone is too good to be true."""

RANGES = 100
ROWS_A_RANGE = 20
FEWEST = 10
"""Rows of a class below which its AUROC says nothing."""


@dataclass(frozen=True)
class Leak:
    """A column that gives a label away."""

    column: str
    task: str
    metric: str
    """`AUROC` or `R²`."""
    value: float


def leak_of(column: str, groups_N: Groups, task: str, kind: TaskKind, labels_N: Floats) -> Leak | None:
    """The leak that a column is, or None.

    Args:
        groups_N: of the column, from `groups_of`.
        labels_N: the task's; NaN is missing.
    """
    import numpy as np

    there_N = ~np.isnan(labels_N)
    groups_N, labels_N = groups_N[there_N], labels_N[there_N]
    if kind == "regression":
        found, metric = _r2(groups_N, labels_N), "R²"
    else:
        found, metric = _auroc(groups_N, labels_N), "AUROC"
    return Leak(column, task, metric, found) if found > SUSPECT else None


def groups_of(values: Any, *, is_number: bool) -> Groups:
    """A pyarrow array's values as groups 0, 1, …; the missing ones are a group of their own."""
    import numpy as np
    import pyarrow.compute as pc

    if is_number:
        numbers_N = np.asarray(pc.cast(values, "float64"), dtype=np.float64)
        distinct = np.unique(numbers_N[~np.isnan(numbers_N)])
        ranges = min(RANGES, max(2, len(numbers_N) // ROWS_A_RANGE))
        if len(distinct) > ranges:
            distinct = np.unique(np.nanquantile(numbers_N, np.linspace(0, 1, ranges)))
        groups_N = np.searchsorted(distinct, numbers_N) + 1
        return np.where(np.isnan(numbers_N), 0, groups_N)
    codes = pc.dictionary_encode(values).combine_chunks().indices
    return np.asarray(pc.fill_null(codes, -1), dtype=np.int64) + 1


def _auroc(groups_N: Groups, labels_N: Floats) -> float:
    """The least over the classes, each against the rest: only a column that tells all of them apart is suspect."""
    import numpy as np

    classes, counts = np.unique(labels_N, return_counts=True)
    told = [_one_auroc(groups_N, labels_N == c) for c, n in zip(classes, counts, strict=True) if n >= FEWEST]
    return min(told) if len(told) > 1 else 0.0


def _one_auroc(groups_N: Groups, positive_N: NDArray[np.bool_]) -> float:
    from scipy.stats import rankdata

    rank_N = rankdata(_from_the_other_half(groups_N, positive_N.astype(float)))
    positives = int(positive_N.sum())
    above = rank_N[positive_N].sum() - positives * (positives + 1) / 2
    return float(above / positives / (len(positive_N) - positives))


def _r2(groups_N: Groups, labels_N: Floats) -> float:
    total = ((labels_N - labels_N.mean()) ** 2).sum() if len(labels_N) else 0.0
    if total == 0:
        return 0.0
    return float(1 - ((labels_N - _from_the_other_half(groups_N, labels_N)) ** 2).sum() / total)


def _from_the_other_half(groups_N: Groups, labels_N: Floats) -> Floats:
    """Each row's group mean among the rows of the other half; the other half's mean where it has no such group."""
    import numpy as np

    half_N = np.random.RandomState(0).random_sample(len(labels_N)) < 0.5
    predicted_N = np.empty(len(labels_N))
    num_groups = int(groups_N.max(initial=0)) + 1
    for mine_N in (half_N, ~half_N):
        other_N = ~mine_N
        count_G = np.bincount(groups_N[other_N], minlength=num_groups)
        sum_G = np.bincount(groups_N[other_N], labels_N[other_N], minlength=num_groups)
        mean = labels_N[other_N].mean() if other_N.any() else 0.0
        mean_G = np.where(count_G > 0, sum_G / np.maximum(count_G, 1), mean)
        predicted_N[mine_N] = mean_G[groups_N[mine_N]]
    return predicted_N

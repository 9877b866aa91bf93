"""What several seeds tell of one number: an interval, a paired test, and Holm's correction of several tests.

Student's t throughout: with a handful of seeds there is nothing to bootstrap, and pairs by seed are nearly normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and where the true mean lies, with 95 % confidence, by Student's t."""

    mean: float
    low: float | None
    """None where one seed leaves nothing to tell its spread from."""
    high: float | None
    num_seeds: int

    @property
    def below_zero(self) -> bool:
        """Whether all of it is below 0."""
        return self.high is not None and self.high < 0


def interval(values: Sequence[float]) -> Interval:
    """mean ± t(.975, n − 1) · s / √n.

    Args:
        values: one a seed, at least one.
    """
    mean, count = fmean(values), len(values)
    if count < 2:
        return Interval(mean, None, None, count)
    from scipy import stats  # half a second

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * stdev(values) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def paired_p_value(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Two-sided paired t-test; None for fewer than two pairs.

    Differences that are all alike have no spread: they are certain, or, being 0, no difference.
    """
    differences = [our - their for our, their in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        return None
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy import stats

    statistic = mean / (spread / math.sqrt(len(differences)))
    return float(2 * stats.t.sf(abs(statistic), len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979): each is to be compared with the level itself."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected

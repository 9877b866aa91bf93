"""What several seeds tell: against scipy's own functions, and against numbers that were worked out by hand."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from mtlsearch.report.statistics import Interval, holm, interval, paired_p_value


def test_an_interval_worked_out_by_hand() -> None:
    """Mean 3, standard deviation √2.5, and t(.975, 4) = 2.776 from the table: 3 ± 2.776 · √(2.5 / 5) = 3 ± 1.963."""
    found = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3
    assert found.low == pytest.approx(3 - 1.963, abs=1e-3)
    assert found.high == pytest.approx(3 + 1.963, abs=1e-3)
    assert found.num_seeds == 5


@pytest.mark.parametrize("seed", range(20))
def test_intervals_and_tests_are_scipys(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(2, 9)
    ours, theirs = ([draw.gauss(mean, 1) for _ in range(count)] for mean in (0.0, draw.choice((0.0, 0.5, 3.0))))
    low, high = stats.t.interval(0.95, count - 1, loc=sum(ours) / count, scale=stats.sem(ours))
    assert (interval(ours).low, interval(ours).high) == (pytest.approx(low), pytest.approx(high))
    assert paired_p_value(ours, theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_an_interval_holds_the_truth_95_times_in_100() -> None:
    draw = random.Random(0)
    covered = 0
    for _ in range(4000):
        found = interval([draw.gauss(0, 1) for _ in range(5)])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered / 4000 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 4000))


def test_one_seed_has_neither_interval_nor_test() -> None:
    assert interval([0.7]) == Interval(0.7, None, None, 1)
    assert not interval([-0.7]).below_zero
    assert paired_p_value([0.7], [0.5]) is None
    assert paired_p_value([], []) is None


def test_seeds_that_all_say_the_same() -> None:
    assert interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)
    assert paired_p_value([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]) == 1.0
    assert paired_p_value([1.0, 2.0, 4.0], [2.0, 3.0, 5.0]) == 0.0


def test_below_zero_is_the_whole_interval() -> None:
    assert Interval(-0.3, -0.5, -0.1, 5).below_zero
    assert not Interval(-0.3, -0.7, 0.1, 5).below_zero
    assert not Interval(-0.3, -0.6, 0.0, 5).below_zero


def test_holm_on_a_worked_example() -> None:
    """In order: .005 · 4 = .02, .01 · 3 = .03, .03 · 2 = .06, and .04 · 1, which may not be below that."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_lets_a_false_difference_through_once_in_twenty_at_most() -> None:
    """Of three tests without any difference, uncorrected ones would find one in 14 of 100 rankings."""
    draw = random.Random(1)
    rankings = [holm([draw.random() for _ in range(3)]) for _ in range(4000)]
    assert sum(min(p_values) < 0.05 for p_values in rankings) / 4000 == pytest.approx(0.05, abs=0.0104)

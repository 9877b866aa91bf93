"""Seeds: made from their parts, the same in every process and release."""

from __future__ import annotations

from mtlsearch.records import CONTINUE, Decision, derive_seed


def test_a_seed_is_pinned():
    assert derive_seed(7, 0) == 431379789


def test_each_part_changes_it():
    seeds = {derive_seed(experiment, trial) for experiment in range(20) for trial in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_parts_do_not_run_together():
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_a_decision_stops_when_it_has_a_state():
    assert not CONTINUE.stops
    assert Decision("PRUNED", "median").stops

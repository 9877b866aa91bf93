"""After the search, its best trials and the baselines are trained again on fresh seeds, in the same study."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest_search import EPOCHS, SERVED, Read, measured, run, value

from mtlsearch.records import EpochMetrics, TrialOrder, TrialRecord, derive_seed
from mtlsearch.search import Search, read_records
from mtlsearch.space import Experiment

FINAL = ("final={top_k: 2, seeds: 3}", "budget.trials=8", "search.pruner=median")


def new(experiment: Experiment, folder: Path, **options: object) -> Search:
    """A search over the study in `folder`, new or begun."""
    return Search(experiment, SERVED, folder / "study.journal", **{"past": lambda number: [], **options})  # type: ignore[arg-type]


def orders(search: Search) -> list[TrialOrder]:
    """Runs to the end; every order that was handed out."""
    found = []
    while (order := search.next()) is not None:
        found.append(order)
        for epoch in range(1, order.epochs + 1):
            if search.report(order.number, measured(epoch, value(order.config, order.number, epoch))).stops:
                break
    return found


def finals(search: Search) -> list[TrialRecord]:
    return [record for record in search.records() if record.role == "final"]


@pytest.mark.parametrize("metric", ["delta", "mean"])
def test_the_best_trials_and_every_baseline_once_a_seed(read: Read, tmp_path: Path, metric: str) -> None:
    experiment = read(*FINAL, f"objective.metric={metric}")
    search = new(experiment, tmp_path)
    found = [order for order in orders(search) if order.role == "final"]
    ranked = sorted(
        (r for r in search.records() if r.role == "trial" and r.state == "COMPLETE"),
        key=lambda r: (-(r.value or 0.0), r.number),
    )
    best = [record.number for record in ranked[:2]]
    assert [(order.candidate, order.tasks, order.repeat) for order in found] == [
        again
        for repeat in range(3)
        for again in (
            (None, ("late",), repeat),
            (None, ("delay",), repeat),
            (best[0], ("late", "delay"), repeat),
            (best[1], ("late", "delay"), repeat),
        )
    ]
    for order in found:
        assert order.seed == derive_seed(5, "final", order.repeat)  # one for all of a repeat: they are pairs
        if order.candidate is not None:
            assert order.config == experiment.space.config(search.record(order.candidate).params)
            assert order.metric == metric
        else:
            assert order.config.model.kind == "single_task"
            assert order.metric == ("late/auroc" if order.tasks == ("late",) else "delay/rmse")
    assert [order.number for order in found] == list(range(found[0].number, found[0].number + 12))
    assert [(r.candidate, r.task, r.repeat) for r in finals(search)] == [
        (order.candidate, None if order.candidate is not None else order.tasks[0], order.repeat) for order in found
    ]
    assert search.num_finals == 12
    assert search.finished


def test_without_the_section_nothing_changes(read: Read, tmp_path: Path) -> None:
    search = new(read("budget.trials=3"), tmp_path)
    assert [order.role for order in orders(search)] == ["trial"] * 3
    assert search.num_finals == 0


def test_they_wait_for_the_last_trial(read: Read, tmp_path: Path) -> None:
    search = new(read("final={top_k: 1, seeds: 1}", "budget.trials=2", "search.pruner=none"), tmp_path)
    first, second = search.next(), search.next()
    assert first is not None
    assert second is not None
    for epoch in range(1, EPOCHS + 1):
        search.report(first.number, measured(epoch, 0.1))
    assert search.next() is None
    assert not search.finished
    for epoch in range(1, EPOCHS + 1):
        search.report(second.number, measured(epoch, 0.2))
    assert [order.candidate for order in orders(search)] == [None, None, second.number]


def test_no_pruner_and_no_wall_stops_them(read: Read, tmp_path: Path) -> None:
    left = [10.0]
    experiment = read(
        "final={top_k: 1, seeds: 2}",
        "budget.trials=9",
        "search.pruner={kind: threshold, lower: 0.5, n_warmup_epochs: 9}",
    )
    search = new(experiment, tmp_path, seconds_left=lambda: left[0])
    first = search.next()
    assert first is not None
    for epoch in range(1, EPOCHS + 1):
        search.report(first.number, measured(epoch, 0.9))
    left[0] = -5.0
    while (order := search.next()) is not None:
        assert order.role == "final"
        decisions = [search.report(order.number, measured(epoch, 0.0)) for epoch in range(1, EPOCHS + 1)]
        assert [decision.state for decision in decisions] == [None] * (EPOCHS - 1) + ["COMPLETE"]
    assert len(finals(search)) == 6
    left[0] = 100.0  # a longer wall does not take the search up again: the ranking is of what there was
    assert new(experiment, tmp_path, seconds_left=lambda: left[0]).finished


def test_samplers_and_pruners_never_see_them(read: Read, tmp_path: Path) -> None:
    search = new(read(*FINAL, "objective.metric=delta"), tmp_path)
    run(search)
    assert len(search._study.get_trials()) == 8
    assert all(trial.params for trial in search._study.get_trials())
    best = search.best()
    assert best is not None
    assert best.role == "trial"


def test_failed_ones_do_not_stop_the_rest(read: Read, tmp_path: Path) -> None:
    search = new(read("final={top_k: 1, seeds: 2}", "budget.trials=1", "objective.metric=delta"), tmp_path)
    while (order := search.next()) is not None:
        if order.role == "final" and order.repeat == 0:
            search.fail(order.number, "its process was lost")
            continue
        for epoch in range(1, EPOCHS + 1):
            search.report(order.number, measured(epoch, 0.5))
    assert [record.state for record in finals(search)] == ["FAIL"] * 3 + ["COMPLETE"] * 3


def test_nothing_to_rank_where_no_trial_is_complete(read: Read, tmp_path: Path) -> None:
    search = new(read("final={top_k: 2, seeds: 2}", "budget.trials=2"), tmp_path)
    while (order := search.next()) is not None:
        search.report(order.number, measured(1, math.nan))
    assert search.finished
    assert finals(search) == []


def test_drivers_that_die_after_every_few_reports_train_the_same(read: Read, tmp_path: Path) -> None:
    experiment = read(*FINAL, "objective.metric=delta")
    whole = tmp_path / "whole"
    whole.mkdir()
    undisturbed = {order.number: order for order in orders(new(experiment, whole))}
    epochs: dict[int, list[EpochMetrics]] = {}
    handed: dict[int, TrialOrder] = {}
    for _ in range(200):
        search = new(experiment, tmp_path, past=lambda number: epochs.get(number, []))
        reports = 0
        while reports < 5 and (order := search.next()) is not None:
            handed[order.number] = order
            past = epochs.setdefault(order.number, [])
            for epoch in range(len(past) + 1, order.epochs + 1):
                past.append(measured(epoch, value(order.config, order.number, epoch)))
                reports += 1
                if reports == 5 or search.report(order.number, past[-1]).stops:  # the last one is never heard of
                    break
        if search.finished:
            break
    assert handed == undisturbed
    assert read_records(tmp_path / "study.journal") == read_records(whole / "study.journal")

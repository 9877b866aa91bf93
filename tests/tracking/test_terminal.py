"""What a person sees while a search runs."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mtlsearch.config import SingleTaskConfig, TrialConfig
from mtlsearch.records import CONTINUE, Decision
from mtlsearch.tracking import Tracker, terminal_tracker
from mtlsearch.tracking.terminal import LiveView, PlainLines, format_scores, format_seconds


def _console(terminal: bool = False, width: int = 80) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=24, color_system=None)


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (190, "3m10s"),
        (3599.6, "1h00m"),
        (7500, "2h05m"),
        (360000, "100h00m"),
    ],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text


def test_scores_are_the_main_metric_of_each_task():
    scores = {
        "cancelled": {"auroc": 0.81234, "average_precision": 0.1},
        "late": {"auroc": None},
        "delay": {"rmse": 38.0},
    }
    assert format_scores(scores) == "cancelled auroc 0.8123 · late auroc undefined · delay rmse 38"


@pytest.mark.parametrize(("terminal", "term", "kind"), [(True, "xterm", LiveView), (True, "dumb", PlainLines)])
def test_a_terminal_that_can_redraw_gets_the_live_view(monkeypatch, terminal, term, kind):
    monkeypatch.setenv("TERM", term)
    assert type(terminal_tracker(_console(terminal))) is kind
    assert type(terminal_tracker(_console(False))) is PlainLines


# Plain lines -----------------------------------------------------------------------------------------------------


def _tell_all(tracker: Tracker, events: Any) -> None:
    """A baseline, a complete, a pruned and a failed trial."""
    baseline = events.order(0, "baseline", ("cancelled",), config=TrialConfig(model=SingleTaskConfig()))
    tracker.search_started("flights", events.state(baselines_done=0))
    tracker.trial_started(baseline, {})
    tracker.epoch_finished(baseline, events.epoch(1, 0.81, ("cancelled",)), CONTINUE)
    record = events.record(0, "COMPLETE", 0.0, "trained all 1 epochs", role="baseline")
    tracker.trial_finished(baseline, record, events.state(baselines_done=1))
    for number, state, reason, value in (
        (2, "COMPLETE", "trained all 2 epochs", 0.0625),
        (3, "PRUNED", "hyperband: -0.5 at epoch 2", -0.5),
        (4, "FAIL", "the loss [of cancelled] is nan", None),
    ):
        order = events.order(number)
        tracker.trial_started(order, {})
        for epoch in (1, 2):
            metrics = events.epoch(epoch, value or 0.0)
            tracker.epoch_finished(order, metrics, Decision(state, reason) if epoch == 2 else CONTINUE)
        counts = dict.fromkeys(("COMPLETE", "PRUNED", "FAIL")[: number - 1], 1)
        tracker.trial_finished(order, events.record(number, state, value, reason), events.state(counts=counts))
    tracker.search_finished(events.state())


def test_one_line_an_event(events):
    console = _console(width=20)  # lines are not folded: a log is read by programs too
    _tell_all(PlainLines(console), events)
    first = "cancelled auroc 0.81 · arr_delay rmse 39 | 1.2s"
    second = "cancelled auroc 0.82 · arr_delay rmse 38 | 1.2s"
    assert _text(console).splitlines() == [
        "flights: 2 single-task baselines, then up to 10 trials",
        "trial 0 (baseline cancelled) epoch 1: objective +0.8100 | cancelled auroc 0.81 | 1.2s",
        "trial 0 (baseline cancelled) COMPLETE: trained all 1 epochs [0/10]",
        f"trial 2 mmoeex epoch 1: objective +0.0625 | {first}",
        f"trial 2 mmoeex epoch 2: objective +0.0625 | {second}",
        "trial 2 mmoeex COMPLETE objective +0.0625: trained all 2 epochs [1/10]",
        f"trial 3 mmoeex epoch 1: objective -0.5000 | {first}",
        f"trial 3 mmoeex epoch 2: objective -0.5000 | {second}",
        "trial 3 mmoeex PRUNED objective -0.5000: hyperband: -0.5 at epoch 2 [2/10]",
        f"trial 4 mmoeex epoch 1: objective +0.0000 | {first}",
        f"trial 4 mmoeex epoch 2: objective +0.0000 | {second}",
        "trial 4 mmoeex FAIL: the loss [of cancelled] is nan [3/10]",
    ]


def test_a_resumed_search_says_how_far_it_is(events):
    console = _console()
    PlainLines(console).search_started("flights", events.state(counts={"COMPLETE": 3, "PRUNED": 2, "RUNNING": 1}))
    PlainLines(console).search_started("flights", events.state(num_baselines=0))
    assert _text(console).splitlines() == [
        "flights: 2 single-task baselines, then up to 10 trials, 5 of them done",
        "flights: up to 10 trials",
    ]


# The live view ---------------------------------------------------------------------------------------------------


class _Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def view(clock: _Clock) -> LiveView:
    return LiveView(_console(terminal=True), clock)


def _picture(view: LiveView) -> list[str]:
    console = _console()
    console.print(view.picture())
    return [line.rstrip() for line in _text(console).splitlines()]


def test_the_whole_picture(view, events, clock):
    best = {"best": events.record(5, "COMPLETE", 0.0625, "trained all"), "best_scores": events.epoch(4, 0.0625)}
    state = events.state(counts={"COMPLETE": 2, "PRUNED": 1, "FAIL": 1}, seconds=120.0, **best)
    view.search_started("flights", state)
    view.trial_started(events.order(7), {})
    view.trial_started(events.order(8), {})
    view.epoch_finished(events.order(7), events.epoch(3, -0.0125), CONTINUE)
    clock.now += 5
    picture = _picture(view)
    view.search_finished(state)
    assert picture == [
        "flights  ━━━━━━━━━╸                4/10 trials  2m05s  ETA 1m55s",
        "running 2  complete 2  pruned 1  failed 1  baselines 2/2",
        "  trial 7 mmoeex  epoch 3/5  -0.0125",
        "  trial 8 mmoeex  epoch 0/5",
        "best: trial 5, objective +0.0625",
        "  cancelled  auroc  0.84  baseline 0.8",
        "  arr_delay  rmse   36    baseline 40",
        "  model=mmoeex  optimizer.lr=0.00123",
    ]


def test_time_passes_between_events(view, events, clock):
    view.search_started("flights", events.state(counts={"COMPLETE": 2}, seconds=100.0))  # 4 of 12 in 100 s
    shown = []
    for seconds in (0, 30, 300):
        clock.now = 1000.0 + seconds
        shown.append(_picture(view)[0].split("trials")[1].split())
    view.search_finished(events.state())
    assert shown == [["1m40s", "ETA", "3m20s"], ["2m10s", "ETA", "2m50s"], ["6m40s", "ETA", "0s"]]


def test_baselines_count_for_the_time_that_is_left(view, events):
    view.search_started("flights", events.state(baselines_done=1, seconds=10.0))  # 1 of 12 in 10 s
    line = _picture(view)[0]
    view.search_finished(events.state())
    assert line.endswith("0/10 trials  10s  ETA 1m50s")


def test_nothing_is_foretold_before_anything_has_ended(view, events):
    view.search_started("flights", events.state(baselines_done=0, seconds=0.0))
    assert _picture(view)[0].endswith("0/10 trials  0s")
    view.search_finished(events.state())


def test_the_wall_budget_ends_it_sooner(view, events):
    view.search_started("flights", events.state(baselines_done=0, seconds=0.0, seconds_left=600.0))
    first = _picture(view)[0]
    order, record = events.order(2), events.record(2, "COMPLETE", 0.1, "trained all")
    view.trial_started(order, {})
    view.trial_finished(order, record, events.state(counts={"COMPLETE": 1}, seconds=570.0, seconds_left=30.0))
    second = _picture(view)[0]
    view.search_finished(events.state())
    assert first.endswith("ETA 10m00s")
    assert second.endswith("9m30s  ETA 30s")


def test_at_the_end_nothing_runs_and_nothing_is_left(view, events):
    view.search_started("flights", events.state())
    view.trial_started(events.order(9), {})
    view.search_finished(events.state(counts={"COMPLETE": 10}, seconds=3700.0))
    assert _picture(view)[:2] == [
        "flights  ━━━━━━━━━━━━━━━━━━━━━━━━  10/10 trials  1h01m",
        "running 0  complete 10  pruned 0  failed 0  baselines 2/2",
    ]


def test_failures_stay_on_the_screen_and_the_cursor_comes_back(events):
    console = _console(terminal=True)
    view = LiveView(console)
    _tell_all(view, events)
    text = _text(console)
    assert "trial 4 mmoeex FAIL: the loss [of cancelled] is nan" in text
    assert "PRUNED" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_many_trials_and_tasks_fit_on_24_lines(view, events):
    tasks = tuple(f"assay_{number:03d}" for number in range(128))
    params = {f"model.mmoeex.parameter_{number}": number for number in range(8)}
    best = events.record(5, "COMPLETE", 0.0625, "trained all", params=params)
    state = events.state(best=best, best_scores=events.epoch(1, 0.0625, tasks))
    view.search_started("a-name-that-is-rather-long-for-a-terminal", state)
    for number in range(30):
        view.trial_started(events.order(number), {})
    picture = _picture(view)
    view.search_finished(state)
    assert len(picture) <= 23
    assert max(map(len, picture)) <= 80
    assert "  … and 24 more" in picture
    assert "  … and 122 more tasks" in picture


# The final ranking -----------------------------------------------------------------------------------------------


def test_final_trials_say_what_they_train_again_and_how_many_there_are(events):
    console = _console()
    lines, state = PlainLines(console), events.state(counts={"COMPLETE": 10}, finals_done=3, num_finals=20)
    again, alone = (
        events.order(number, "final", tasks, candidate=candidate, repeat=1)
        for number, tasks, candidate in ((14, ("cancelled", "arr_delay"), 7), (15, ("cancelled",), None))
    )
    for order, value in ((again, 0.25), (alone, 0.0)):
        task = None if order.candidate is not None else "cancelled"
        record = events.record(order.number, "COMPLETE", value, "trained all 5 epochs", role="final", task=task)
        lines.trial_finished(order, record, state)
    assert _text(console).splitlines() == [
        "trial 14 (trial 7 again, seed 2) COMPLETE objective +0.2500: trained all 5 epochs [final 3/20]",
        "trial 15 (baseline cancelled again, seed 2) COMPLETE: trained all 5 epochs [final 3/20]",
    ]


def test_the_live_view_counts_final_trials(events):
    console = _console()
    view = LiveView(console)
    view.search_started("flights", events.state(finals_done=3, num_finals=20))
    console.print(view.picture())
    view.search_finished(events.state(finals_done=4, num_finals=20))
    assert "final 3/20" in _text(console)

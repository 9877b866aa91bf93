"""What a person sees while a search runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlsearch.records import Decision, EpochMetrics, Scores, TrialOrder, TrialRecord
from mtlsearch.tracking.base import SearchState, Tracker

_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan"}


def terminal_tracker(console: Console) -> Tracker:
    """The live view when `console` is a terminal, else one line an event."""
    return LiveView(console) if console.is_terminal else PlainLines(console)


def describe(order: TrialOrder) -> str:
    """A trial in a few words: `trial 7 mmoeex`, `baseline cancelled`."""
    if order.role == "baseline":
        return f"trial {order.number} (baseline {order.tasks[0]})"
    return f"trial {order.number} {order.config.model.kind}"


def format_scores(scores: Scores) -> str:
    """`cancelled auroc .812 · arr_delay rmse 38.1`: each task's main metric."""
    parts = []
    for task, metrics in scores.items():
        name, value = next(iter(metrics.items()))
        parts.append(f"{task} {name} {'undefined' if value is None else format(value, '.4g')}")
    return " · ".join(parts)


def format_seconds(seconds: float) -> str:
    """`45s`, `3m10s`, `2h05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class PlainLines(Tracker):
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def search_started(self, name: str, state: SearchState) -> None:
        """Says how much is to be done."""
        baselines = f"{state.num_baselines} single-task baselines, then " if state.num_baselines else ""
        self._say(f"{name}: {baselines}up to {state.num_trials} trials")

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """The objective and each task's main metric."""
        self._say(
            f"{describe(order)} epoch {metrics.epoch}: objective {metrics.objective:+.4f} | "
            f"{format_scores(metrics.validation)} | {metrics.seconds:.1f}s"
        )

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """How it ended, and why."""
        value = "" if record.value is None or record.role == "baseline" else f" objective {record.value:+.4f}"
        done = sum(count for name, count in state.counts.items() if name != "RUNNING")
        self._say(f"{describe(order)} {record.state}{value}: {record.reason} [{done}/{state.num_trials}]")


class LiveView(Tracker):
    """Progress, counts, running trials and the best so far, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._draw)
        self._name = ""
        self._state: SearchState | None = None
        self._running: dict[int, tuple[TrialOrder, EpochMetrics | None]] = {}
        self._began = time.monotonic()

    def search_started(self, name: str, state: SearchState) -> None:
        """Starts drawing."""
        self._name, self._state = name, state
        self._live.start()

    def trial_started(self, order: TrialOrder, flat: dict[str, object]) -> None:
        """Adds a row."""
        self._running[order.number] = (order, None)

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """Renews the row."""
        self._running[order.number] = (order, metrics)

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """Drops the row; failures stay on the screen."""
        self._running.pop(order.number, None)
        self._state = state
        if record.state == "FAIL":
            self._live.console.print(Text(f"{describe(order)} FAIL: {record.reason}", "red"))

    def search_finished(self, state: SearchState) -> None:
        """Leaves the last picture on the screen."""
        self._state = state
        self._running.clear()
        self._live.stop()

    def _draw(self) -> RenderableType:
        if self._state is None:
            return Text("starting …")
        state = self._state
        rows: list[RenderableType] = [self._progress(state), self._counts(state)]
        if self._running:
            rows.append(self._trials())
        if state.best is not None and state.best_scores is not None:
            rows.append(Text(f"best: trial {state.best.number}, objective {state.best.value:+.4f}", "bold"))
            rows.append(Text(f"  {format_scores(state.best_scores.validation)}"))
            rows.append(Text("  " + "  ".join(f"{k}={_short(v)}" for k, v in state.best.params.items()), "dim"))
        return Group(*rows)

    def _progress(self, state: SearchState) -> RenderableType:
        done = sum(count for name, count in state.counts.items() if name != "RUNNING")
        grid = Table.grid(padding=(0, 1))
        elapsed = time.monotonic() - self._began
        grid.add_row(
            Text(self._name, "bold"),
            ProgressBar(total=max(state.num_trials, 1), completed=done, width=30),
            f"{done}/{state.num_trials} trials",
            format_seconds(state.seconds + elapsed if done == 0 else state.seconds),
            f"ETA {format_seconds(_eta(state, done))}" if done else "",
        )
        return grid

    def _counts(self, state: SearchState) -> RenderableType:
        text = Text()
        for name in ("RUNNING", "COMPLETE", "PRUNED", "FAIL"):
            count = len(self._running) if name == "RUNNING" else state.counts.get(name, 0)
            text.append(f"{name.lower()} {count}  ", _STYLES[name])
        if state.num_baselines:
            text.append(f"baselines {state.baselines_done}/{state.num_baselines}", "dim")
        return text

    def _trials(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for _, (order, metrics) in sorted(self._running.items())[:8]:
            epoch = f"epoch {metrics.epoch if metrics else 0}/{order.epochs}"
            value = f"{metrics.objective:+.4f}" if metrics else ""
            table.add_row(Text(f"  {describe(order)}", "cyan"), epoch, value)
        return table


def _eta(state: SearchState, done: int) -> float:
    """Seconds until the budget is spent, at the rate so far."""
    by_trials = state.seconds / done * (state.num_trials - done)
    return by_trials if state.seconds_left is None else max(0.0, min(by_trials, state.seconds_left))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""What a person sees while a search runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtlsearch.records import Decision, EpochMetrics, Scores, TrialOrder, TrialRecord
from mtlsearch.tracking.base import SearchState, Tracker

SHOWN_RUNNING = 6
SHOWN_TASKS = 6
"""With these, the live view fits on a terminal of 24 lines."""

_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red", "RUNNING": "cyan"}
_WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


def terminal_tracker(console: Console) -> Tracker:
    """The live view when `console` is a terminal that can redraw, else one line an event."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainLines(console)


def describe(order: TrialOrder) -> str:
    """A trial in a few words: `trial 7 mmoeex`, `baseline cancelled`."""
    if order.role == "final":
        again = f"trial {order.candidate}" if order.candidate is not None else f"baseline {order.tasks[0]}"
        return f"trial {order.number} ({again} again, seed {order.repeat + 1})"
    if order.role == "baseline":
        return f"trial {order.number} (baseline {order.tasks[0]})"
    return f"trial {order.number} {order.config.model.kind}"


def format_scores(scores: Scores) -> str:
    """`cancelled auroc .812 · arr_delay rmse 38.1`: each task's main metric, as long as there are not too many."""
    parts = []
    for task, metrics in list(scores.items())[:SHOWN_TASKS]:
        name, value = next(iter(metrics.items()))
        parts.append(f"{task} {name} {'undefined' if value is None else format(value, '.4g')}")
    more = [f"{len(scores) - SHOWN_TASKS} more"] if len(scores) > SHOWN_TASKS else []
    return " · ".join(parts + more)


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
        done = f", {_done(state)} of them done" if _done(state) else ""
        finals = f", then up to {state.num_finals} trials for the final ranking" if state.num_finals else ""
        self._say(f"{name}: {baselines}up to {state.num_trials} trials{done}{finals}")

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """The objective and each task's main metric."""
        self._say(
            f"{describe(order)} epoch {metrics.epoch}: objective {metrics.objective:+.4f} | "
            f"{format_scores(metrics.validation)} | {metrics.seconds:.1f}s"
        )

    def trial_restarted(self, order: TrialOrder, reason: str) -> None:
        """Why."""
        self._say(f"{describe(order)} is taken up again: {reason}")

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """How it ended, and why."""
        alone = order.role == "baseline" or (order.role == "final" and order.candidate is None)
        value = "" if record.value is None or alone else f" objective {record.value:+.4f}"
        count = f"{_done(state)}/{state.num_trials}"
        if record.role == "final":
            count = f"final {state.finals_done}/{state.num_finals}"
        self._say(f"{describe(order)} {record.state}{value}: {record.reason} [{count}]")


class LiveView(Tracker):
    """Progress, counts, running trials and the best so far with its baselines, redrawn in place.

    Args:
        console: a terminal.
        clock: seconds that pass by themselves, between events too.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._name = ""
        self._state: SearchState | None = None
        self._heard = 0.0  # when the state was told; its seconds are of that moment
        self._running: dict[int, tuple[TrialOrder, EpochMetrics | None]] = {}
        self._reference: Mapping[str, float] = {}
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self.picture)  # draws at once

    def search_started(self, name: str, state: SearchState) -> None:
        """Starts drawing."""
        self._name = name
        self._hear(state)
        self._live.start()

    def trial_started(self, order: TrialOrder, flat: dict[str, object]) -> None:
        """Adds a row."""
        self._running[order.number] = (order, None)
        self._reference = order.reference or self._reference

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """Renews the row."""
        self._running[order.number] = (order, metrics)

    def trial_restarted(self, order: TrialOrder, reason: str) -> None:
        """Stays on the screen."""
        self._live.console.print(Text(f"{describe(order)} is taken up again: {reason}", "yellow"))

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """Drops the row; failures stay on the screen."""
        self._running.pop(order.number, None)
        self._hear(state)
        if record.state == "FAIL":
            self._live.console.print(Text(f"{describe(order)} FAIL: {record.reason}", "red"))

    def search_finished(self, state: SearchState) -> None:
        """Leaves the last picture on the screen."""
        self._running.clear()
        self._hear(state)
        self._live.stop()

    def picture(self) -> RenderableType:
        """What stands on the screen now."""
        if self._state is None:
            return Text("starting …")
        rows = [self._progress(self._state), self._counts(self._state)]
        if self._running:
            rows.append(self._trials())
        if self._state.best is not None and self._state.best_scores is not None:
            rows.extend(self._best(self._state.best, self._state.best_scores))
        return Group(*rows)

    def _hear(self, state: SearchState) -> None:
        self._state, self._heard = state, self._clock()

    def _progress(self, state: SearchState) -> RenderableType:
        since, left = self._clock() - self._heard, _seconds_left(state)
        over = left is None or _done(state) == state.num_trials
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(max_width=24, no_wrap=True)
        grid.add_row(
            Text(self._name, "bold"),
            ProgressBar(total=max(state.num_trials, 1), completed=_done(state), width=24),
            f"{_done(state)}/{state.num_trials} trials",
            format_seconds(state.seconds + since),
            "" if over or left is None else f"ETA {format_seconds(max(0.0, left - since))}",
        )
        return grid

    def _counts(self, state: SearchState) -> RenderableType:
        text = Text()
        for name in ("RUNNING", "COMPLETE", "PRUNED", "FAIL"):
            count = len(self._running) if name == "RUNNING" else state.counts.get(name, 0)
            text.append(f"{_WORDS[name]} {count}  ", _STYLES[name])
        if state.num_baselines:
            text.append(f"baselines {state.baselines_done}/{state.num_baselines}", "dim")
        if state.num_finals:
            text.append(f"  final {state.finals_done}/{state.num_finals}", "dim")
        return text

    def _trials(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        running = sorted(self._running.items())
        for _, (order, metrics) in running[:SHOWN_RUNNING]:
            epoch = f"epoch {metrics.epoch if metrics else 0}/{order.epochs}"
            value = f"{metrics.objective:+.4f}" if metrics else ""
            table.add_row(Text(f"  {describe(order)}", "cyan"), epoch, value)
        if len(running) > SHOWN_RUNNING:
            table.add_row(Text(f"  … and {len(running) - SHOWN_RUNNING} more", "dim"))
        return table

    def _best(self, best: TrialRecord, scores: EpochMetrics) -> list[RenderableType]:
        """Its objective, its tasks' main metrics beside their baselines, its parameters."""
        table = Table.grid(padding=(0, 2))
        for task, metrics in list(scores.validation.items())[:SHOWN_TASKS]:
            name, value = next(iter(metrics.items()))
            beside = f"baseline {self._reference[task]:.4g}" if task in self._reference else ""
            table.add_row(f"  {task}", name, "undefined" if value is None else f"{value:.4g}", Text(beside, "dim"))
        if (more := len(scores.validation) - SHOWN_TASKS) > 0:
            table.add_row(Text(f"  … and {more} more tasks", "dim"))
        params = "  ".join(f"{name}={_short(value)}" for name, value in best.params.items())
        return [
            Text(f"best: trial {best.number}, objective {best.value:+.4f}", "bold"),
            table,
            Padding(Text(params, "dim"), (0, 0, 0, 2)),
        ]


def _done(state: SearchState) -> int:
    """Trials that have ended."""
    return sum(count for name, count in state.counts.items() if name != "RUNNING")


def _seconds_left(state: SearchState) -> float | None:
    """Until the budget is spent, at the rate so far, a baseline counted as a trial; None while none has ended."""
    ended = _done(state) + state.baselines_done
    if not ended:
        return state.seconds_left
    by_trials = state.seconds / ended * (state.num_trials + state.num_baselines - ended)
    return by_trials if state.seconds_left is None else min(by_trials, state.seconds_left)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""The named tables that charts are drawn from: plain rows, each number once, shared by all charts that need it.

Tasks, parameters and axes are columns by index (`s0`, `g0`, `p0`), so that a task may have any name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtlsearch.config import Task
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.records import EpochMetrics, Scores
from mtlsearch.report.experiment import Facts, TrialFacts, main_score
from mtlsearch.report.parallel import Axis, axes_of

MOST_TASKS = 16
"""Tasks that charts show: of more, those in which the trials differ most."""

MOST_INSIDE = 6
"""Trials whose experts are looked at."""

MOST_EXPERTS = 32
"""Experts that a heat map shows."""

MOST_IN_HEATMAP = 40
"""Trials in the heat map of gains, best first."""

MOST_WHOLE = 50
"""Trials of which every epoch is shown."""

MOST_EPOCHS = 10
"""Epochs of each other trial, so that a page of a long search stays small."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """Of one experiment."""

    facts: Facts

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """Those that charts show, in the data's order."""
        if len(self.facts.tasks) <= MOST_TASKS:
            return self.facts.tasks
        apart = sorted(self.facts.tasks, key=self._spread, reverse=True)[:MOST_TASKS]
        return tuple(task for task in self.facts.tasks if task in apart)

    @cached_property
    def ranked(self) -> list[TrialFacts]:
        """The search's trials, best first."""
        return self.facts.ranked()

    @cached_property
    def gains(self) -> dict[int, dict[str, float]]:
        """Trial → task → relative gain over its baseline."""
        return {trial.number: self.facts.gains(trial) for trial in self.ranked}

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Of the parallel coordinates: parameters with several values, those that mattered most first."""
        return axes_of(self.ranked, list(self.facts.importance.objective))

    @cached_property
    def mixtures(self) -> list[TrialFacts]:
        """The best trials whose model is a mixture of experts."""
        return [trial for trial in self.ranked if trial.model is not None and trial.model.gate_utilization][
            :MOST_INSIDE
        ]

    @cached_property
    def whole(self) -> frozenset[int]:
        """Numbers of the trials of which every epoch is shown: the search's, best first, then the others."""
        others = (number for number, trial in self.facts.trials.items() if trial.record.role != "trial")
        return frozenset([*(trial.number for trial in self.ranked), *others][:MOST_WHOLE])

    @property
    def objective(self) -> str:
        """What was maximised, for people."""
        metric = next((trial.order.metric for trial in self.ranked if trial.order is not None), "objective")
        return "Δ (objective)" if metric == "delta" else f"{metric} (objective)"

    def named(self) -> dict[str, list[Row]]:
        """Every table by its name."""
        return {
            "trials": self.trials(),
            "epochs": self.epochs(),
            "gains": self.gain_rows(),
            "ticks": [tick for axis in self.axes for tick in axis.ticks()],
            "importance": self.importance(),
            "distance": self.distances(),
            "gates": self.gates(),
        }

    def trials(self) -> list[Row]:
        """A row a trial of the search, by number."""
        ranks = {trial.number: rank for rank, trial in enumerate(self.ranked, start=1)}
        rows, best = [], None
        for trial in sorted(self.ranked, key=lambda trial: trial.number):
            value, gains = finite(trial.record.value), self.gains[trial.number]
            if trial.record.state == "COMPLETE" and value is not None:
                best = value if best is None else max(best, value)
            rows.append(
                {
                    "trial": trial.number,
                    "name": label(trial),
                    "rank": ranks[trial.number],
                    "model": kind(trial),
                    "state": trial.record.state,
                    "objective": short(value),
                    "best": short(best),
                    "epochs": len(trial.epochs),
                    "reason": trial.record.reason[:200],
                    "alpha": trial.parameters.get("model.alpha"),
                    "num_experts": trial.parameters.get("model.num_experts"),
                    "expert": trial.parameters.get("model.expert.kind"),
                    **self._columns("s", [main_score(task, trial) for task in self.tasks]),
                    **self._columns("g", [gains.get(task.name) for task in self.tasks]),
                    **{f"p{index}": axis.place(trial) for index, axis in enumerate(self.axes)},
                }
            )
        return rows

    def epochs(self) -> list[Row]:
        """A row an epoch: the objective and each task's main metric; of trials that are not `whole`, a few epochs."""
        return [
            {
                "trial": trial.number,
                "role": trial.record.role,
                "epoch": metrics.epoch,
                "objective": short(metrics.objective),
                **self._columns("s", [_main(task, metrics.validation) for task in self.tasks]),
            }
            for trial in self.facts.trials.values()
            for metrics in (trial.epochs if trial.number in self.whole else spaced(trial.epochs, MOST_EPOCHS))
        ]

    def gain_rows(self) -> list[Row]:
        """A row a task of each of the best trials: its gain over the baseline."""
        shown = [trial for trial in self.ranked if self.gains[trial.number]][:MOST_IN_HEATMAP]
        return [
            {"rank": rank, "name": label(trial), "task": index, "gain": short(self.gains[trial.number][task.name])}
            for rank, trial in enumerate(shown, start=1)
            for index, task in enumerate(self.tasks)
            if task.name in self.gains[trial.number]
        ]

    def importance(self) -> list[Row]:
        """A row a parameter and target: its share; target 0 is the objective, then the tasks."""
        importance = self.facts.importance
        targets = [importance.objective, *(importance.tasks.get(task.name, {}) for task in self.tasks)]
        names = list(dict.fromkeys(name for shares in targets for name in shares))[:20]
        return [
            {"parameter": order, "name": name, "target": index, "share": short(shares.get(name, 0.0))}
            for order, name in enumerate(names)
            for index, shares in enumerate(targets)
            if shares
        ]

    def distances(self) -> list[Row]:
        """A row a pair of experts of the best mixtures."""
        return [
            {"trial": trial.number, "one": one, "other": other, "distance": short(distance)}
            for trial in self.mixtures
            for one, row in enumerate((trial.model and trial.model.expert_distance) or ())
            for other, distance in enumerate(row)
            if max(one, other) < MOST_EXPERTS
        ]

    def gates(self) -> list[Row]:
        """A row a task and expert of the best mixtures."""
        shown = [(index, task.name) for index, task in enumerate(self.tasks)]
        return [row for trial in self.mixtures for row in _gate_rows(trial, shown)]

    def _spread(self, task: Task) -> float:
        values = [gains[task.name] for gains in self.gains.values() if task.name in gains]
        if not values:
            values = [value for trial in self.ranked if (value := main_score(task, trial)) is not None]
        return max(values, default=0.0) - min(values, default=0.0)

    def _columns(self, prefix: str, values: Sequence[float | None]) -> dict[str, float | None]:
        return {f"{prefix}{index}": short(value) for index, value in enumerate(values)}


def _main(task: Task, scores: Scores) -> float | None:
    return scores.get(task.name, {}).get(task.main_metric)


def label(trial: TrialFacts) -> str:
    """`24 mmoeex`."""
    return f"{trial.number} {kind(trial)}"


def kind(trial: TrialFacts) -> str:
    """The model's kind."""
    return str(trial.parameters.get("model.kind", "—"))


def task_label(task: Task) -> str:
    """`air_time (rmse, minutes, lower is better)`."""
    unit = f", {task.unit}" if task.unit and task.main_metric in LOWER_IS_BETTER else ""
    return f"{task.name} ({task.main_metric}{unit}{', lower is better' if task.main_metric in LOWER_IS_BETTER else ''})"


def finite(value: float | None) -> float | None:
    """None for what JSON cannot say."""
    return value if value is not None and math.isfinite(value) else None


def short(value: float | None) -> float | None:
    """Five digits are more than a picture can show."""
    value = finite(value)
    return None if value is None else float(f"{value:.5g}") + 0.0  # -0.0 becomes 0.0, which has no sign to show


def spaced(epochs: Sequence[EpochMetrics], most: int) -> list[EpochMetrics]:
    """At most so many, as evenly spaced as they can be, the first and the last among them."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[round(index * (len(epochs) - 1) / (most - 1))] for index in range(most)]


def _gate_rows(trial: TrialFacts, tasks: Sequence[tuple[int, str]]) -> list[Row]:
    if trial.model is None or trial.model.gate_utilization is None:
        return []
    open_experts: Mapping[str, tuple[bool, ...]] = trial.model.open_experts or {}
    return [
        {
            "trial": trial.number,
            "task": index,
            "expert": expert,
            "share": short(share),
            "closed": name in open_experts and not open_experts[name][expert],
        }
        for index, name in tasks
        for expert, share in enumerate(trial.model.gate_utilization.get(name, ()))
        if expert < MOST_EXPERTS
    ]

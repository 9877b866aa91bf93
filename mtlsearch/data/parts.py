"""The rows of a source's parts: which belong to which split, and taking some of them.

Axes: N rows of a part, M its steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtlsearch.config.task import Task
from mtlsearch.data.columns import SPLITS, Columns, Part, SplitName, StepPart
from mtlsearch.data.progress import report

if TYPE_CHECKING:
    from mtlsearch.data.columns import Ints, LabelValues


@dataclass(frozen=True)
class PlacedPart:
    """A part, and which of its rows belong to which split."""

    part: Part
    first_row: int
    rows: Mapping[SplitName, Ints]
    """Split → rows, counted from the part's first."""


def placed_parts(columns: Columns, stage: str) -> Iterator[PlacedPart]:
    """All parts with their rows' splits; `stage` is what a progress bar calls this."""
    total = sum(len(rows) for rows in columns.rows.values())
    first, done = 0, 0
    report(stage, 0, total)
    for part in columns.parts():
        rows = {name: _within(columns.rows[name], first, first + _num_rows(part)) - first for name in SPLITS}
        yield PlacedPart(part, first, rows)
        first, done = first + _num_rows(part), done + sum(len(chosen) for chosen in rows.values())
        report(stage, done, total)


def take_rows(part: Part, rows_N: Ints) -> Part:
    """Some rows of a part, ascending, with their steps."""
    return Part(
        numeric={name: column[rows_N] for name, column in part.numeric.items()},
        categorical={name: column.take(rows_N) for name, column in part.categorical.items()},
        labels={name: labels[rows_N] for name, labels in part.labels.items()},
        weights={name: weights[rows_N] for name, weights in part.weights.items()},
        steps=None if part.steps is None else _take_sequences(part.steps, rows_N),
    )


def labels_of(part: Part, task: Task) -> LabelValues:
    """A task's labels, of rows or of steps."""
    if not task.per_step:
        return part.labels[task.name]
    assert part.steps is not None, f"{task.name} has a label a step, but the data has no steps"
    return part.steps.labels[task.name]


def _within(rows: Ints, start: int, stop: int) -> Ints:
    import numpy as np

    low, high = np.searchsorted(rows, [start, stop])
    return rows[low:high]


def _num_rows(part: Part) -> int:
    if part.steps is not None:
        return len(part.steps.length_N)
    return len(next(iter((*part.numeric.values(), *part.categorical.values()))))


def _take_sequences(steps: StepPart, rows_N: Ints) -> StepPart:
    import numpy as np

    if len(rows_N) == len(steps.length_N):
        return steps
    length_N = steps.length_N[rows_N]
    start_N = (np.cumsum(steps.length_N) - steps.length_N)[rows_N]
    moved_N = start_N - (np.cumsum(length_N) - length_N)  # from a step's new place to its old one
    step_M = np.arange(length_N.sum()) + np.repeat(moved_N, length_N)
    return StepPart(
        length_N=length_N,
        numeric={name: column[step_M] for name, column in steps.numeric.items()},
        categorical={name: column.take(step_M) for name, column in steps.categorical.items()},
        labels={name: labels[step_M] for name, labels in steps.labels.items()},
    )

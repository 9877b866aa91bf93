"""What a store knows of its labels: how many, of which class, and for regression their mean and deviation.

Axes: N rows or steps, L labels of a multilabel task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.task import NO_LABEL, Task
from mtlsearch.data.columns import SPLITS, SplitName
from mtlsearch.data.fitting import Moments
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import LabelValues

MOST_NAMED = 8
"""Tasks that a sentence names."""

FAR = 1000
"""Deviations between 0 and the mean beyond which labels are stored less the mean: float32 holds 7 digits, so that
nearer ones lose less than 1e-4 of a deviation, and farther ones, as Unix times, all that tells them apart."""


class LabelFit:
    """One task's labels in one split."""

    def __init__(self, task: Task) -> None:
        import numpy as np

        self.task = task
        self.missing, self.present = 0, 0
        self.moments = Moments()
        """Of a regression task."""
        self._low, self._high = np.inf, -np.inf
        self.frequencies: NDArray[np.int64] = np.zeros(_num_counted(task), np.int64)
        self._label_present = np.zeros(len(self.frequencies), np.int64)

    def add(self, labels_N: LabelValues) -> None:
        """Counts [N] or [N, L] labels in."""
        import numpy as np

        columns_NL = labels_N if labels_N.ndim == 2 else labels_N[:, None]
        there_NL = ~np.isnan(columns_NL)
        num_there = int(there_NL.any(axis=1).sum())
        self.missing, self.present = self.missing + len(columns_NL) - num_there, self.present + num_there
        match self.task.kind:
            case "regression":
                values = columns_NL[there_NL].astype(np.float64)
                self.moments.add(values)
                self._low, self._high = values.min(initial=self._low), values.max(initial=self._high)
            case "multiclass":
                classes = columns_NL[there_NL].astype(np.int64)
                self.frequencies += np.bincount(classes, minlength=len(self.frequencies))
            case _:
                self.frequencies += (columns_NL == 1).sum(axis=0)
                self._label_present += there_NL.sum(axis=0)

    @property
    def scale(self) -> tuple[float, float]:
        """Mean and deviation that standardise the labels; 0 and 1 unless the task is a regression."""
        return (self.moments.mean, self.moments.std) if self.task.kind == "regression" else (0.0, 1.0)

    @property
    def is_far(self) -> bool:
        """Whether the labels are so far from 0 that float32 would blur them."""
        mean, std = self.scale
        return abs(mean) > FAR * std

    @property
    def trivial(self) -> str | None:
        """What the labels are when a constant would predict them all; else None."""
        if self.present == 0:
            return NO_LABEL
        match self.task.kind:
            case "regression":
                return None if self._low < self._high and self.moments.std > 0 else f"only {self.moments.mean:g}"
            case "multiclass":
                (found,) = self.frequencies.nonzero()
                return None if len(found) > 1 else f"only {self.task.classes[found[0]]!r}"
            case "multilabel":
                varies = (self.frequencies > 0) & (self.frequencies < self._label_present)
                return None if varies.any() else "labels of which each is always or never given"
            case _:
                varies = 0 < self.frequencies[0] < self._label_present[0]
                return None if varies else f"only {int(self.frequencies[0] > 0)}"


Labels = Mapping[SplitName, Sequence[LabelFit]]


def no_labels(tasks: Sequence[Task]) -> dict[SplitName, list[LabelFit]]:
    """Of every split and task, before the first row."""
    return {name: [LabelFit(task) for task in tasks] for name in SPLITS}


def check_labels(labels: Labels, file: Path | None) -> None:
    """Raises ConfigError for tasks that have nothing to learn in the training rows; all of them in one message."""
    trivial = [(fit.task.name, fit.trivial) for fit in labels["train"] if fit.trivial is not None]
    if trivial:
        name, found = trivial[0]
        others = f" (so it is with {', '.join(name for name, _ in trivial[1:])})" if len(trivial) > 1 else ""
        raise ConfigError(
            f"task {name!r} needs training rows with different labels, but they have {found}{others}. "
            "Add rows, or leave the task out of data.tasks.",
            Where(file) if file is not None else None,
        )


def one_class_notes(labels: Labels) -> Iterator[str]:
    """A sentence for each split in which some tasks' labels are all alike: what compares classes is undefined there."""
    for name, fits in labels.items():
        alike = [f"{fit.task.name!r} ({fit.trivial})" for fit in fits if fit.trivial is not None]
        if alike:
            rest = f" and {len(alike) - MOST_NAMED} more" if len(alike) > MOST_NAMED else ""
            yield (
                f"In {name}, labels are all alike or missing of {', '.join(alike[:MOST_NAMED])}{rest}: "
                "metrics that need different labels are undefined there."
            )


def _num_counted(task: Task) -> int:
    return {"regression": 0, "binary": 1}.get(task.kind, len(task.classes))

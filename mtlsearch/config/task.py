"""A task: what is predicted, how it is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from mtlsearch.config.base import Config

TaskKind = Literal["binary", "multiclass", "multilabel", "regression"]

METRICS: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("auroc", "average_precision"),
    "multiclass": ("accuracy", "auroc", "f1", "kappa", "linear_kappa"),
    "multilabel": ("auroc", "micro_auroc", "average_precision"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics of each kind; the first is its main one, the one that Δ compares, unless the task names another.

Of several classes or labels, `auroc`, `f1` and `average_precision` are the mean over those that have one (macro);
`linear_kappa` weights a mistake by its distance in classes, so their order must mean something.
"""

LOWER_IS_BETTER = frozenset({"rmse", "mae"})

COMPARES = frozenset({"auroc", "average_precision", "kappa", "linear_kappa", "r2"})
"""Metrics that are undefined where a task's labels are all alike."""

NO_LABEL = "no label at all"
"""What is said of a task's labels in a split where all are missing; no metric is defined there."""


class Task(Config):
    """One task of a data set."""

    name: str
    kind: TaskKind

    metric: str | None = None
    """The main metric where it is not the kind's first."""

    classes: tuple[str, ...] = ()
    """Names of the classes (multiclass) or labels (multilabel), by index; empty until the data has been read."""

    unit: str = ""
    """Unit of a regression task's labels, for people."""

    per_step: bool = False
    """Whether every step of a sequence has a label; else the whole sequence has one."""

    at_step: int | None = None
    """Step, from 0, at which a sequence's one label is predicted, from that and earlier steps; None is its last."""

    @model_validator(mode="after")
    def _metric_fits(self) -> Task:
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            raise ValueError(
                f"the metric of a {self.kind} task must be one of {', '.join(METRICS[self.kind])}, "
                f"but task {self.name!r} has {self.metric!r}"
            )
        return self

    @property
    def num_labels(self) -> int:
        """Label columns: one a label for a multilabel task, else one."""
        return len(self.classes) if self.kind == "multilabel" else 1

    @property
    def num_outputs(self) -> int:
        """Width of the output: one a class or label, else one."""
        return len(self.classes) if self.kind in ("multiclass", "multilabel") else 1

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are computed for this task, the main one first."""
        return tuple(sorted(METRICS[self.kind], key=lambda name: name != self.main_metric))

    @property
    def main_metric(self) -> str:
        """The metric that the objective compares."""
        return self.metric or METRICS[self.kind][0]

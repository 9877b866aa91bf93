"""A task: what is predicted, how it is scored."""

from __future__ import annotations

from typing import Literal

from mtlsearch.config.base import Config

TaskKind = Literal["binary", "regression"]

METRICS: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("auroc", "average_precision"),
    "regression": ("rmse", "mae", "r2"),
}
"""The metrics of each kind; the first is its main one, the one that Δ compares."""

LOWER_IS_BETTER = frozenset({"rmse", "mae"})


class Task(Config):
    """One task of a data set."""

    name: str
    kind: TaskKind

    num_outputs: int = 1
    """Width of the output."""

    unit: str = ""
    """Unit of a regression task's labels, for people."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are computed for this task, the main one first."""
        return METRICS[self.kind]

    @property
    def main_metric(self) -> str:
        """The metric that the objective compares: AUROC for binary tasks, RMSE for regression."""
        return METRICS[self.kind][0]

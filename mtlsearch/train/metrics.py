"""Scores of predictions, in the tasks' own units, missing labels left out.

Axes: N rows, K tasks, O outputs (one a task).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from mtlsearch.config import Task

Array = NDArray[np.float64]

METRICS: Mapping[str, Callable[[Array, Array], float]] = {
    "auroc": roc_auc_score,
    "average_precision": average_precision_score,
    "rmse": root_mean_squared_error,
    "mae": mean_absolute_error,
    "r2": r2_score,
}
"""Name → metric(labels, predictions)."""


def score_tasks(tasks: Sequence[Task], predictions_NK: Array, labels_NK: Array) -> dict[str, dict[str, float | None]]:
    """Task → metric → value; None where the labels that are present do not define the metric.

    Args:
        predictions_NK: probabilities (or any score that orders the rows) and regressions in original units.
        labels_NK: in original units, NaN where missing.
    """
    return {
        task.name: _score_task(task, predictions_NK[:, index], labels_NK[:, index]) for index, task in enumerate(tasks)
    }


def _score_task(task: Task, predictions_N: Array, labels_N: Array) -> dict[str, float | None]:
    present_N = ~np.isnan(labels_N)
    labels_N, predictions_N = labels_N[present_N], predictions_N[present_N]
    if not _defined(task, labels_N):
        return dict.fromkeys(task.metrics)
    if not np.isfinite(predictions_N).all():
        return dict.fromkeys(task.metrics, float("nan"))
    return {name: float(METRICS[name](labels_N, predictions_N)) for name in task.metrics}


def _defined(task: Task, labels_N: Array) -> bool:
    if task.kind == "binary":
        return len(np.unique(labels_N)) == 2
    return len(labels_N) >= 2

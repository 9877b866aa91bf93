"""Scores of predictions, in the tasks' own units, missing labels left out. The metrics are torchmetrics' own.

Axes: N rows, K tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from mtlsearch.config import Task

METRICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auroc": lambda predictions, labels: binary_auroc(predictions, labels.long(), validate_args=False),
    "average_precision": lambda predictions, labels: binary_average_precision(
        predictions, labels.long(), validate_args=False
    ),
    "rmse": lambda predictions, labels: mean_squared_error(predictions, labels, squared=False),
    "mae": mean_absolute_error,
    "r2": r2_score,
}
"""Name → metric(predictions, labels)."""


def score_tasks(tasks: Sequence[Task], predictions_NK: Tensor, labels_NK: Tensor) -> dict[str, dict[str, float | None]]:
    """Task → metric → value; None where the labels that are present do not define the metric.

    Args:
        predictions_NK: float64: logits, probabilities, or regressions in original units.
        labels_NK: float64, in original units, NaN where missing.
    """
    return {
        task.name: _score_task(task, predictions_NK[:, index], labels_NK[:, index]) for index, task in enumerate(tasks)
    }


def _score_task(task: Task, predictions_N: Tensor, labels_N: Tensor) -> dict[str, float | None]:
    present_N = ~labels_N.isnan()
    labels_N, predictions_N = labels_N[present_N], predictions_N[present_N]
    if not _defined(task, labels_N):
        return dict.fromkeys(task.metrics)
    if not torch.isfinite(predictions_N).all():
        return dict.fromkeys(task.metrics, float("nan"))
    return {name: float(METRICS[name](predictions_N, labels_N)) for name in task.metrics}


def _defined(task: Task, labels_N: Tensor) -> bool:
    if task.kind == "binary":
        return bool((labels_N == 0).any() and (labels_N == 1).any())
    return len(labels_N) >= 2

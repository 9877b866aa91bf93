"""Scores of predictions, in the tasks' own units, missing labels left out.

Those of a ranking are ours, since one sorting serves two of them; the others are torchmetrics' own.

Axes: P predictions, O outputs, L label columns, C classes; of one task, N predictions that have a label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch
from torch import Tensor
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_cohen_kappa, multiclass_f1_score

from mtlsearch.config import Task
from mtlsearch.config.task import TaskKind
from mtlsearch.train.ranking import Ranking, rank


def score_tasks(tasks: Sequence[Task], outputs_PO: Tensor, labels_PL: Tensor) -> dict[str, dict[str, float | None]]:
    """Task → metric → value; None where the labels that are present do not define the metric.

    Args:
        outputs_PO: float64: logits (of binary and multilabel tasks anything that ranks alike, as probabilities), or
            regressions in original units.
        labels_PL: float64, in original units, NaN where missing.
    """
    outputs = torch.split(outputs_PO, [task.num_outputs for task in tasks], dim=1)
    labels = torch.split(labels_PL, [task.num_labels for task in tasks], dim=1)
    return {task.name: _score_task(task, *columns) for task, *columns in zip(tasks, outputs, labels, strict=True)}


def _score_task(task: Task, outputs_PO: Tensor, labels_PL: Tensor) -> dict[str, float | None]:
    present_P = ~labels_PL.isnan().all(1)
    if not present_P.any():
        return dict.fromkeys(task.metrics)
    outputs_NO, labels_NL = outputs_PO[present_P], labels_PL[present_P]
    if not outputs_NO.isfinite().all():
        return dict.fromkeys(task.metrics, math.nan)
    scores = _SCORES[task.kind](outputs_NO, labels_NL)
    return {name: None if math.isnan(scores[name]) else scores[name] for name in task.metrics}


def _binary(outputs_N1: Tensor, labels_N1: Tensor) -> dict[str, float]:
    return rank(outputs_N1[:, 0], labels_N1[:, 0])._asdict()


def _multilabel(outputs_NL: Tensor, labels_NL: Tensor) -> dict[str, float]:
    present_NL = ~labels_NL.isnan()
    columns = zip(outputs_NL.unbind(1), labels_NL.unbind(1), present_NL.unbind(1), strict=True)
    rankings = [rank(outputs_N[present_N], labels_N[present_N]) for outputs_N, labels_N, present_N in columns]
    return _macro(rankings)._asdict() | {"micro_auroc": rank(outputs_NL[present_NL], labels_NL[present_NL]).auroc}


def _multiclass(outputs_NC: Tensor, labels_N1: Tensor) -> dict[str, float]:
    index_N, predicted_N = labels_N1[:, 0].long(), outputs_NC.argmax(1)
    log_odds_NC, classes = outputs_NC.log_softmax(1), torch.unique(index_N).tolist()
    options = {"num_classes": outputs_NC.shape[1], "validate_args": False}
    scores = {
        "auroc": _macro([rank(log_odds_NC[:, c], index_N == c) for c in classes]).auroc,
        "accuracy": float(multiclass_accuracy(predicted_N, index_N, average="micro", **options)),
        "f1": float(multiclass_f1_score(predicted_N, index_N, average="macro", **options)),
    }
    for name, weights in (("kappa", None), ("linear_kappa", "linear")):
        kappa = multiclass_cohen_kappa(predicted_N, index_N, weights=weights, **options)
        scores[name] = float(kappa) if len(classes) > 1 else math.nan
    return scores


def _regression(outputs_N1: Tensor, labels_N1: Tensor) -> dict[str, float]:
    # Both less the labels' mean, which changes no error: squares of what is far from 0 would leave R² no digits.
    mean = labels_N1[:, 0].mean()
    outputs_N, labels_N = outputs_N1[:, 0] - mean, labels_N1[:, 0] - mean
    return {
        "rmse": float(mean_squared_error(outputs_N, labels_N, squared=False)),
        "mae": float(mean_absolute_error(outputs_N, labels_N)),
        "r2": float(r2_score(outputs_N, labels_N)) if labels_N.min() < labels_N.max() else math.nan,
    }


_SCORES: Mapping[TaskKind, Callable[[Tensor, Tensor], dict[str, float]]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "regression": _regression,
}
"""Kind → metrics of finite outputs and the labels that are there; NaN is undefined."""


def _macro(rankings: Sequence[Ranking]) -> Ranking:
    """The mean over the classes or labels that have a positive and a negative."""
    defined = [ranking for ranking in rankings if not math.isnan(ranking.auroc)]
    if not defined:
        return Ranking(math.nan, math.nan)
    return Ranking(*(fmean(values) for values in zip(*defined, strict=True)))

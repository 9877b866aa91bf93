"""Scores: masked, in the task's own units, undefined rather than wrong."""

from __future__ import annotations

import math

import pytest
import sklearn.metrics
import torch

from mtlsearch.config import Task
from mtlsearch.train.metrics import score_tasks

LATE, DELAY = Task(name="late", kind="binary"), Task(name="delay", kind="regression")
NAN = float("nan")


def score(task: Task, predictions: list[float], labels: list[float]) -> dict[str, float | None]:
    """One task's scores."""
    columns = [torch.tensor(values, dtype=torch.float64)[:, None] for values in (predictions, labels)]
    return score_tasks([task], *columns)[task.name]


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    predictions, labels = [0.1, 0.4, 0.35, 0.8], [0.0, 0.0, 1.0, 1.0]
    pairs = [
        (p, n)
        for p, a in zip(predictions, labels, strict=True)
        for n, b in zip(predictions, labels, strict=True)
        if a > b
    ]
    expected = sum(p > n for p, n in pairs) / len(pairs)
    assert score(LATE, predictions, labels)["auroc"] == pytest.approx(expected) == 0.75


@pytest.mark.parametrize("rows", [20, 3000])
def test_the_scores_are_scikit_learns_ties_included(rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    predictions = (torch.randn(rows, generator=draw, dtype=torch.float64) * 4).round() / 4
    late = (torch.rand(rows, generator=draw) < 0.3).double()
    delay = predictions * 2 + torch.randn(rows, generator=draw, dtype=torch.float64)
    binary, regression = (
        score(LATE, predictions.tolist(), late.tolist()),
        score(DELAY, predictions.tolist(), delay.tolist()),
    )
    expected = {
        "auroc": sklearn.metrics.roc_auc_score(late, predictions),
        "average_precision": sklearn.metrics.average_precision_score(late, predictions),
        "rmse": sklearn.metrics.root_mean_squared_error(delay, predictions),
        "mae": sklearn.metrics.mean_absolute_error(delay, predictions),
        "r2": sklearn.metrics.r2_score(delay, predictions),
    }
    assert binary | regression == pytest.approx(expected, abs=1e-6)


def test_regression_scores_are_in_the_units_of_the_label() -> None:
    scores = score(DELAY, [10.0, 20.0, 30.0], [13.0, 20.0, 26.0])
    assert scores["mae"] == pytest.approx((3 + 0 + 4) / 3)
    assert scores["rmse"] == pytest.approx(math.sqrt((9 + 0 + 16) / 3))
    assert scores["r2"] == pytest.approx(1 - 25 / ((13 - 59 / 3) ** 2 + (20 - 59 / 3) ** 2 + (26 - 59 / 3) ** 2))


def test_rows_without_a_label_do_not_count() -> None:
    assert score(DELAY, [10.0, 99.0, 30.0], [13.0, NAN, 26.0]) == score(DELAY, [10.0, 30.0], [13.0, 26.0])


@pytest.mark.parametrize("labels", [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [NAN, NAN, NAN], [1.0, NAN, 1.0]])
def test_one_class_only_is_undefined(labels: list[float]) -> None:
    assert score(LATE, [0.1, 0.2, 0.3], labels) == {"auroc": None, "average_precision": None}


def test_no_label_at_all_is_undefined() -> None:
    assert score(DELAY, [1.0, 2.0], [NAN, NAN]) == {"rmse": None, "mae": None, "r2": None}


def test_a_prediction_that_is_not_finite_makes_every_score_nan() -> None:
    assert all(math.isnan(value) for value in score(LATE, [0.1, NAN], [0.0, 1.0]).values() if value is not None)

"""Scores: masked, in the task's own units, undefined rather than wrong."""

from __future__ import annotations

import math

import pytest
import sklearn.metrics
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from mtlsearch.config import Task
from mtlsearch.train.metrics import score_tasks
from mtlsearch.train.ranking import rank

LATE, DELAY = Task(name="late", kind="binary"), Task(name="delay", kind="regression")
GROUP = Task(name="group", kind="multiclass", classes=tuple("wxyz"))
SIGNS = Task(name="signs", kind="multilabel", classes=tuple("abc"))
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


@pytest.mark.parametrize("rows", [1, 2, 50, 3000])
@pytest.mark.parametrize("values", [1, 3, 1000])
def test_a_ranking_is_torchmetrics_own(rows: int, values: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    scores = torch.randint(values, (rows,), generator=draw).double() / values  # beyond 1 torchmetrics squashes them
    late = (torch.rand(rows, generator=draw) < 0.4).long()
    late[:2] = torch.tensor([0, 1])[: len(late)]
    ranking = rank(scores, late)
    if rows == 1:
        assert math.isnan(ranking.auroc)
        assert math.isnan(ranking.average_precision)
        return
    assert ranking.auroc == pytest.approx(float(binary_auroc(scores, late)), abs=1e-6)
    assert ranking.average_precision == pytest.approx(float(binary_average_precision(scores, late)), abs=1e-6)


def draws(task: Task, rows: int = 400, classes: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that know something of the labels."""
    draw = torch.Generator().manual_seed(1)
    shape = (rows, task.num_labels)
    labels_PL = torch.randint(classes or max(2, task.num_outputs), shape, generator=draw).double()
    noise_PO = torch.randn(rows, task.num_outputs, generator=draw, dtype=torch.float64)
    if task.kind == "multiclass":
        return noise_PO + torch.nn.functional.one_hot(labels_PL[:, 0].long(), task.num_outputs), labels_PL
    labels_PL = (labels_PL > labels_PL.max() / 2).double()
    return noise_PO + labels_PL, labels_PL


def test_scores_of_classes_are_scikit_learns() -> None:
    outputs_PC, labels_P1 = draws(GROUP)
    labels, predicted = labels_P1[:, 0].numpy(), outputs_PC.argmax(1).numpy()
    shares = outputs_PC.softmax(1).numpy()
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "auroc": sklearn.metrics.roc_auc_score(labels, shares, multi_class="ovr", average="macro"),
        "f1": sklearn.metrics.f1_score(labels, predicted, average="macro"),
        "kappa": sklearn.metrics.cohen_kappa_score(labels, predicted),
        "linear_kappa": sklearn.metrics.cohen_kappa_score(labels, predicted, weights="linear"),
    }
    assert score_tasks([GROUP], outputs_PC, labels_P1)["group"] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_no_row_has_counts_in_no_mean() -> None:
    outputs_PC, labels_P1 = draws(GROUP, classes=3)
    outputs_PC[:, 3] = -50
    outputs_PC[0, 3] = -49
    labels, predicted = labels_P1[:, 0].numpy(), outputs_PC.argmax(1).numpy()
    shares_PC = outputs_PC.softmax(1)
    each = [sklearn.metrics.roc_auc_score(labels == c, shares_PC[:, c].numpy()) for c in range(3)]
    scores = score_tasks([GROUP], outputs_PC, labels_P1)["group"]
    assert scores["auroc"] == pytest.approx(sum(each) / 3, abs=1e-6)
    assert scores["f1"] == pytest.approx(sklearn.metrics.f1_score(labels, predicted, average="macro"), abs=1e-6)


def test_scores_of_many_labels_are_scikit_learns_each_label_masked_for_itself() -> None:
    outputs_PL, labels_PL = draws(SIGNS)
    labels_PL[torch.rand(labels_PL.shape, generator=torch.Generator().manual_seed(5)) < 0.3] = NAN
    present_PL = ~labels_PL.isnan()
    columns = [(labels_PL[p, i].numpy(), outputs_PL[p, i].numpy()) for i, p in enumerate(present_PL.unbind(1))]
    aurocs = [sklearn.metrics.roc_auc_score(*column) for column in columns]
    precisions = [sklearn.metrics.average_precision_score(*column) for column in columns]
    expected = {
        "auroc": sum(aurocs) / 3,
        "micro_auroc": sklearn.metrics.roc_auc_score(labels_PL[present_PL], outputs_PL[present_PL]),
        "average_precision": sum(precisions) / 3,
    }
    assert score_tasks([SIGNS], outputs_PL, labels_PL)["signs"] == pytest.approx(expected, abs=1e-6)


def test_a_label_with_one_class_only_counts_in_no_mean() -> None:
    outputs_PL, labels_PL = draws(SIGNS)
    labels_PL[:, 0], labels_PL[:, 1] = 1, NAN
    scores = score_tasks([SIGNS], outputs_PL, labels_PL)["signs"]
    alone = sklearn.metrics.roc_auc_score(labels_PL[:, 2], outputs_PL[:, 2])
    assert scores["auroc"] == pytest.approx(alone, abs=1e-6)
    assert scores["micro_auroc"] is not None


def test_labels_of_one_class_define_what_needs_no_other() -> None:
    outputs_PC, labels_P1 = draws(GROUP)
    scores = score_tasks([GROUP], outputs_PC, torch.full_like(labels_P1, 2))["group"]
    assert scores == pytest.approx(
        {
            "accuracy": float((outputs_PC.argmax(1) == 2).double().mean()),
            "auroc": None,
            "f1": scores["f1"],
            "kappa": None,
            "linear_kappa": None,
        }
    )


def test_labels_that_are_all_equal_have_no_r2() -> None:
    scores = score(DELAY, [1.0, 2.0], [5.0, 5.0])
    assert scores == {"rmse": pytest.approx(math.sqrt(12.5)), "mae": 3.5, "r2": None}


def test_every_task_is_scored_from_its_own_columns() -> None:
    tasks = [GROUP, LATE, SIGNS, DELAY]
    drawn = [draws(task) for task in tasks]
    together = score_tasks(tasks, *(torch.cat(columns, 1) for columns in zip(*drawn, strict=True)))
    alone = [score_tasks([task], *columns)[task.name] for task, columns in zip(tasks, drawn, strict=True)]
    assert list(together.values()) == alone
    assert [tuple(scores) for scores in together.values()] == [task.metrics for task in tasks]


@pytest.mark.parametrize("task", [GROUP, LATE, SIGNS, DELAY], ids=lambda task: task.kind)
def test_without_any_label_every_score_is_undefined(task: Task) -> None:
    outputs_PO, labels_PL = draws(task)
    expected = dict.fromkeys(task.metrics)
    assert score_tasks([task], outputs_PO, torch.full_like(labels_PL, NAN))[task.name] == expected
    assert score_tasks([task], outputs_PO[:0], labels_PL[:0])[task.name] == expected


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


@pytest.mark.parametrize("shift", [0.0, 1e7, 1.7e9])
def test_r2_does_not_depend_on_where_the_labels_lie(shift: float) -> None:
    draw = torch.Generator().manual_seed(3)
    labels = torch.randn(2000, generator=draw, dtype=torch.float64)
    predictions = labels + 0.1 * torch.randn(2000, generator=draw, dtype=torch.float64)
    expected = sklearn.metrics.r2_score(labels, predictions)
    assert score(DELAY, (predictions + shift).tolist(), (labels + shift).tolist())["r2"] == pytest.approx(
        expected, 1e-6
    )

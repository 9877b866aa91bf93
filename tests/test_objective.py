"""The objective: what it is made of, and what makes it undefined."""

from __future__ import annotations

from typing import ClassVar

import pytest

from mtlsearch.config import Task
from mtlsearch.config.task import NO_LABEL
from mtlsearch.errors import ConfigError, TrialFailed
from mtlsearch.objective import check_defined, check_metric, gains, score

CLICK, WATCH = Task(name="click", kind="binary"), Task(name="watch", kind="regression")
TASKS = (CLICK, WATCH)
SCORES = {"click": {"auroc": 0.8, "average_precision": 0.3}, "watch": {"rmse": 9.0, "mae": 6.0, "r2": 0.5}}

MIMIC = ("pheno", "los", "decomp", "ihm")
SINGLE_TASK = (77.0, 45.0, 91.0, 86.0)
ARTICLE = {  # table 1 of the MMoEEx article: the tasks' scores, and the delta that it gives for them in percent
    "MCW-LSTM": ((77.4, 45.0, 90.5, 87.0), 0.28),
    "shared bottom": ((73.36, 30.60, 94.12, 82.71), -9.28),
    "MMoE": ((75.09, 54.48, 96.20, 90.44), 7.36),
    "MMoEEx": ((72.44, 63.45, 96.82, 90.73), 11.74),
}


@pytest.mark.parametrize("method", ARTICLE)
def test_delta_is_that_of_the_article(method):
    values, delta = ARTICLE[method]
    tasks = [Task(name=name, kind="binary") for name in MIMIC]
    scores = {name: {"auroc": value} for name, value in zip(MIMIC, values, strict=True)}
    reference = dict(zip(MIMIC, SINGLE_TASK, strict=True))
    assert 100 * score("delta", tasks, scores, reference) == pytest.approx(delta, abs=0.006)


def test_delta_of_a_regression_task_is_its_reduction_of_rmse():
    reference = {"click": 0.75, "watch": 10.0}
    assert gains(TASKS, SCORES, reference) == {"click": pytest.approx(0.05 / 0.75), "watch": pytest.approx(0.1)}
    assert score("delta", TASKS, SCORES, reference) == pytest.approx((0.05 / 0.75 + 0.1) / 2)
    assert gains([WATCH], SCORES, {"watch": 6.0}) == {"watch": pytest.approx(-0.5)}


def test_delta_counts_the_tasks_that_are_learned():
    assert score("delta", [WATCH], SCORES, {"click": 0.1, "watch": 10.0}) == pytest.approx(0.1)


def test_mean_averages_auroc_and_r2():
    assert score("mean", TASKS, SCORES, {}) == pytest.approx((0.8 + 0.5) / 2)


def test_mean_averages_the_accuracy_of_classes_and_the_auroc_of_many_labels():
    tasks = [Task(name="group", kind="multiclass"), Task(name="signs", kind="multilabel")]
    scores = {"group": {"kappa": 0.3, "accuracy": 0.9}, "signs": {"auroc": 0.7, "micro_auroc": 0.8}}
    assert score("mean", tasks, scores, {}) == pytest.approx((0.9 + 0.7) / 2)


def test_delta_compares_the_metric_that_a_task_names():
    tasks = [Task(name="watch", kind="regression", metric="mae"), Task(name="group", kind="multiclass", metric="kappa")]
    scores = {"watch": {"rmse": 9.0, "mae": 6.0, "r2": 0.5}, "group": {"accuracy": 0.9, "kappa": -0.1}}
    expected = {"watch": pytest.approx(0.25), "group": pytest.approx(0.5)}
    assert gains(tasks, scores, {"watch": 8.0, "group": -0.2}) == expected


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("click/auroc", 0.8),
        ("click/average_precision", 0.3),
        ("watch/r2", 0.5),
        ("watch/rmse", -9.0),
        ("watch/mae", -6.0),
    ],
)
def test_one_metric_is_turned_so_that_more_is_better(metric, value):
    assert score(metric, TASKS, SCORES, {}) == value


def test_mean_takes_the_metric_that_a_task_names_if_more_of_it_is_better():
    kinds = (Task(name="kind", kind="multiclass", metric="kappa"), Task(name="watch", kind="regression", metric="mae"))
    scores = {"kind": {"accuracy": 0.9, "kappa": 0.4}, "watch": {"mae": 7.0, "r2": 0.5}}
    assert score("mean", kinds, scores, {}) == pytest.approx((0.4 + 0.5) / 2)


@pytest.mark.parametrize("metric", ["delta", "mean", "click/auroc"])
def test_an_undefined_metric_fails_the_trial(metric):
    scores = SCORES | {"click": {"auroc": None, "average_precision": None}}
    with pytest.raises(TrialFailed) as failed:
        score(metric, TASKS, scores, {"click": 0.5, "watch": 10.0})
    assert str(failed.value) == "auroc of task 'click' is undefined on validation: it has no labels, or one class only"


def test_an_undefined_metric_that_is_not_asked_for_is_no_matter():
    scores = SCORES | {"click": {"auroc": None, "average_precision": None}}
    assert score("watch/r2", TASKS, scores, {}) == 0.5


def test_a_baseline_of_0_fails_the_trial():
    with pytest.raises(TrialFailed) as failed:
        score("delta", TASKS, SCORES, {"click": 0.8, "watch": 0.0})
    assert str(failed.value).startswith("the baseline's rmse is 0, so a relative gain over it is undefined; use ")


@pytest.mark.parametrize("metric", ["delta", "mean", "click/auroc", "watch/mae"])
def test_metrics_that_fit(metric):
    check_metric(metric, TASKS, None)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            "delt",
            "must be delta, mean or task/metric, found 'delt'. Here: click/auroc, click/average_precision, watch/",
        ),
        ("buy/auroc", "names the task 'buy', which is not learned. Write one of: click/auroc, "),
        ("click/rmse", "'click/rmse' does not fit: click is a binary task. Write one of: click/auroc, click/average_p"),
        ("watch/", "'watch/' does not fit: watch is a regression task. Write one of: watch/rmse, watch/mae, watch/r2."),
        ("/auroc", "names the task '', which is not learned."),
    ],
)
def test_metrics_that_do_not_fit(metric, message):
    with pytest.raises(ConfigError) as refused:
        check_metric(metric, TASKS, None)
    assert str(refused.value).startswith(f"objective.metric {message}")


class TestLabelsThatAreAllAlike:
    """Of click only 0 on validation: what ranks or compares its classes is undefined in every trial."""

    ALIKE: ClassVar = {"click": "only 0"}

    @pytest.mark.parametrize("metric", ["delta", "mean", "click/auroc"])
    def test_an_objective_that_needs_the_task_is_refused(self, metric):
        with pytest.raises(ConfigError) as refused:
            check_defined(metric, TASKS, self.ALIKE, None)
        assert str(refused.value) == (
            f"objective.metric {metric} needs auroc of task 'click' on validation, where its labels leave it "
            "undefined: only 0. Split the data otherwise, leave the task out of data.tasks, or write an objective of "
            "other tasks, such as watch/rmse."
        )

    def test_an_objective_that_does_not_is_none_the_worse(self):
        check_defined("watch/rmse", TASKS, self.ALIKE, None)
        check_defined("delta", TASKS, {}, None)

    def test_an_error_in_units_needs_no_two_labels_but_one(self):
        check_defined("watch/rmse", TASKS, {"watch": "only 3"}, None)
        with pytest.raises(ConfigError, match="needs r2 of task 'watch'"):
            check_defined("watch/r2", TASKS, {"watch": "only 3"}, None)
        with pytest.raises(ConfigError, match=r"needs rmse of task 'watch' .* no label at all"):
            check_defined("watch/rmse", TASKS, {"watch": NO_LABEL}, None)

    def test_all_such_tasks_are_named_at_once(self):
        with pytest.raises(
            ConfigError, match=r"'click' .* only 0 \(so it is with watch\)\. Split .* out of data.tasks\.$"
        ):
            check_defined("mean", TASKS, {"click": "only 0", "watch": NO_LABEL}, None)

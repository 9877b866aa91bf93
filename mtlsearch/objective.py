"""The one number that a trial maximises, from its tasks' validation scores.

Δ is the mean relative gain over single-task baselines (Maninis et al., arXiv 1904.08918, eq. 4), of each task's main
metric. A regression's is RMSE unless the task names another: R² passes through 0, where a relative gain has no
meaning, and so does kappa. The mean takes metrics that have no unit and are better when higher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from mtlsearch.config import Task
from mtlsearch.config.task import COMPARES, LOWER_IS_BETTER, NO_LABEL, TaskKind
from mtlsearch.errors import ConfigError, TrialFailed, Where
from mtlsearch.records import Scores

_MEAN_METRIC: Mapping[TaskKind, str] = {
    "binary": "auroc",
    "multilabel": "auroc",
    "multiclass": "accuracy",
    "regression": "r2",
}
"""What `mean` averages, of a task that names no metric in which more is better."""


def score(metric: str, tasks: Sequence[Task], scores: Scores, reference: Mapping[str, float]) -> float:
    """The objective, higher is better.

    Args:
        metric: `delta` (mean relative gain of the main metrics), `mean` (of the tasks' auroc, accuracy or r2, or the
            metric that a task names, if more of it is better) or `task/metric`.
        tasks: the tasks that count.
        scores: task → metric → value.
        reference: for `delta`, task → the baseline's main metric.

    Raises:
        TrialFailed: a score that is needed is undefined.
    """
    if metric == "delta":
        return fmean(gains(tasks, scores, reference).values())
    if metric == "mean":
        return fmean(_defined(scores, task.name, _mean_metric(task)) for task in tasks)
    task_name, name = metric.split("/")
    value = _defined(scores, task_name, name)
    return -value if name in LOWER_IS_BETTER else value


def gains(tasks: Sequence[Task], scores: Scores, reference: Mapping[str, float]) -> dict[str, float]:
    """Task → relative gain of its main metric over the baseline; negative where sharing hurts."""
    return {
        task.name: _relative_gain(task.main_metric, _defined(scores, task.name, task.main_metric), reference[task.name])
        for task in tasks
    }


def check_metric(metric: str, tasks: Sequence[Task], where: Where | None) -> None:
    """Refuses an objective that these tasks cannot give.

    Raises:
        ConfigError: the metric is unknown, names no task, or does not fit the task's kind.
    """
    if metric in ("delta", "mean"):
        return
    by_name = {task.name: task for task in tasks}
    options = ", ".join(f"{task.name}/{name}" for task in tasks for name in task.metrics)
    task_name, slash, name = metric.partition("/")
    if not slash:
        raise ConfigError(
            f"objective.metric must be delta, mean or task/metric, found {metric!r}. Here: {options}.", where
        )
    if task_name not in by_name:
        raise ConfigError(
            f"objective.metric names the task {task_name!r}, which is not learned. Write one of: {options}.",
            where,
        )
    if name not in by_name[task_name].metrics:
        kind = by_name[task_name].kind
        fitting = ", ".join(f"{task_name}/{fit}" for fit in by_name[task_name].metrics)
        raise ConfigError(
            f"objective.metric {metric!r} does not fit: {task_name} is a {kind} task. Write one of: {fitting}.",
            where,
        )


def check_defined(metric: str, tasks: Sequence[Task], alike: Mapping[str, str], where: Where | None) -> None:
    """Refuses an objective that no trial could have.

    Args:
        alike: task → what its labels in validation are, for tasks of which all are alike or none is there.

    Raises:
        ConfigError: it needs a metric that these labels leave undefined.
    """
    undefined = [task for task in tasks if task.name in alike]
    needed = [
        (task.name, name)
        for task in undefined
        for name in _needed(metric, task)
        if _is_undefined(name, alike[task.name])
    ]
    if not needed:
        return
    task, name = needed[0]
    others = f" (so it is with {', '.join(other for other, _ in needed[1:])})" if len(needed) > 1 else ""
    defined = next((f"{each.name}/{each.main_metric}" for each in tasks if each not in undefined), None)
    instead = f", or write an objective of other tasks, such as {defined}" if defined is not None else ""
    raise ConfigError(
        f"objective.metric {metric} needs {name} of task {task!r} on validation, where its labels leave it undefined: "
        f"{alike[task]}{others}. Split the data otherwise, leave the task out of data.tasks{instead}.",
        where,
    )


def _needed(metric: str, task: Task) -> tuple[str, ...]:
    """Metrics of a task that the objective is made of."""
    if metric == "delta":
        return (task.main_metric,)
    if metric == "mean":
        return (_mean_metric(task),)
    task_name, name = metric.split("/")
    return (name,) if task_name == task.name else ()


def _is_undefined(metric: str, alike: str) -> bool:
    return metric in COMPARES or alike == NO_LABEL


def _mean_metric(task: Task) -> str:
    named = task.metric if task.metric not in LOWER_IS_BETTER else None
    return named or _MEAN_METRIC[task.kind]


def _relative_gain(metric: str, value: float, reference: float) -> float:
    if reference == 0:
        raise TrialFailed(f"the baseline's {metric} is 0, so a relative gain over it is undefined; use objective: mean")
    gain = (value - reference) / abs(reference)
    return -gain if metric in LOWER_IS_BETTER else gain


def _defined(scores: Scores, task: str, metric: str) -> float:
    value = scores[task][metric]
    if value is None:
        raise TrialFailed(f"{metric} of task {task!r} is undefined on validation: it has no labels, or one class only")
    return value

"""An experiment as Arrow tables, for notebooks: what `mtlsearch.open` gives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.storage import is_uri
from mtlsearch.records import EpochMetrics
from mtlsearch.report.experiment import Facts, read_experiment_facts
from mtlsearch.report.statistics import Interval
from mtlsearch.space import CategoryDomain, Domain, IntDomain, read_experiment

if TYPE_CHECKING:
    import pyarrow as pa

OF_TRIAL = ("objective", "learning_rate", "grad_norm", "seconds", "samples_per_second")
"""What an epoch's line has once, whatever the tasks."""


class Tables:
    """An experiment's folder, finished or not, as it was when it was opened."""

    def __init__(self, path: str | Path) -> None:
        self._facts: Facts = read_experiment_facts(
            ExperimentFolder.open(path if is_uri(path) else Path(path).expanduser())
        )

    @property
    def facts(self) -> Facts:
        """Everything, as objects: orders, model records, importance."""
        return self._facts

    @cached_property
    def trials(self) -> pa.Table:
        """The leaderboard: a row a trial, best first; scores, test scores, parameters, state and reason."""
        return self._facts.board.table()

    @cached_property
    def best(self) -> pa.Table:
        """The best complete trial's row of `trials`; no row while none is complete."""
        rows = self._facts.board.rows
        found = (i for i, row in enumerate(rows) if row["role"] == "trial" and row["state"] == "COMPLETE")
        index = next(found, None)
        return self.trials.slice(0, 0) if index is None else self.trials.slice(index, 1)

    @cached_property
    def epochs(self) -> pa.Table:
        """Tidy: a row a trial, epoch, task and metric. `metric` is a validation metric, `train_loss`, `task_weight` or
        `gate_entropy`; what an epoch has once (`objective`, `learning_rate`, …) has no task."""
        rows = [
            {"trial": trial.number, "role": trial.record.role, "epoch": epoch.epoch, **each}
            for trial in self._facts.trials.values()
            for epoch in trial.epochs
            for each in _measured(epoch)
        ]
        return _table(rows, trial="int", role="text", epoch="int", task="text", metric="text", value="number")

    @cached_property
    def baselines(self) -> pa.Table:
        """The single-task baselines: a row a task, with its main metric at its best epoch on validation."""
        named = {task.name: task for task in self._facts.tasks}
        rows = [
            {
                "task": trial.record.task,
                "trial": trial.number,
                "state": trial.record.state,
                "metric": (task := named[str(trial.record.task)]).main_metric,
                "value": None if trial.shown is None else trial.shown.validation[task.name].get(task.main_metric),
                "test": None if trial.test is None else trial.test[task.name].get(task.main_metric),
            }
            for trial in self._facts.of_role("baseline")
        ]
        return _table(rows, task="text", trial="int", state="text", metric="text", value="number", test="number")

    @cached_property
    def final(self) -> pa.Table:
        """The final ranking: a row a candidate and what was measured of it, best first; empty where there is none.

        `what` is `score` (the task's main metric on test), `gain` (over its baseline, relative), or `delta`; `low` and
        `high` are the 95 % interval. `p_value` and `tied` are against the best, once a candidate.
        """
        rows = list(self._final())
        return _table(
            rows, rank="int", trial="int", what="text", task="text", mean="number", low="number", high="number",
            num_seeds="int", p_value="number", tied="flag",
        )  # fmt: skip

    @cached_property
    def space(self) -> pa.Table:
        """What was searched: a row a parameter, with its range or its options."""
        folder = self._facts.folder
        overrides = tuple(self._facts.plan.get("overrides", ()))
        dimensions = read_experiment(folder.space, overrides).space.dimensions
        rows = [{"parameter": name, **_domain(domain)} for name, domain in dimensions.items()]
        return _table(
            rows, parameter="text", kind="text", low="number", high="number", log="flag", step="number", options="texts"
        )

    def __repr__(self) -> str:
        return f"<experiment {self._facts.name!r}: {self.trials.num_rows} trials in {self._facts.folder.name}>"

    def _final(self) -> Iterator[dict[str, Any]]:
        final = self._facts.final
        for rank, row in enumerate(final.rows if final is not None else (), start=1):
            of_row = {"rank": rank, "trial": row.trial, "p_value": row.p_value, "tied": row.tied}
            if row.delta is not None:
                yield {**of_row, "what": "delta", "task": None, **_interval(row.delta)}
            for what, each in (("score", row.scores), ("gain", row.gain)):
                for task, found in each.items():
                    yield {**of_row, "what": what, "task": task, **_interval(found)}


def open_experiment(path: str | Path) -> Tables:
    """See `mtlsearch.open`."""
    return Tables(path)


def _measured(epoch: EpochMetrics) -> Iterator[dict[str, Any]]:
    for metric in OF_TRIAL:
        yield {"task": None, "metric": metric, "value": getattr(epoch, metric)}
    for task, scores in epoch.validation.items():
        yield from ({"task": task, "metric": metric, "value": value} for metric, value in scores.items())
    entropy = epoch.mixture.gate_entropy if epoch.mixture is not None else {}
    for metric, values in (
        ("train_loss", epoch.train_loss),
        ("task_weight", epoch.task_weights),
        ("gate_entropy", entropy),
    ):
        yield from ({"task": task, "metric": metric, "value": value} for task, value in values.items())
    if epoch.mixture is not None:
        yield {"task": None, "metric": "diversity", "value": epoch.mixture.diversity}


def _interval(each: Interval) -> dict[str, Any]:
    return {"mean": each.mean, "low": each.low, "high": each.high, "num_seeds": each.num_seeds}


def _domain(domain: Domain) -> dict[str, Any]:
    if isinstance(domain, CategoryDomain):
        return {"kind": "choice", "options": ["null" if option is None else str(option) for option in domain.options]}
    kind = "int" if isinstance(domain, IntDomain) else "float"
    return {"kind": kind, "low": domain.low, "high": domain.high, "log": domain.log, "step": domain.step}


def _table(rows: list[dict[str, Any]], **columns: str) -> pa.Table:
    """Rows as a table whose columns have a type though there is no row."""
    import pyarrow as pa

    types = {
        "int": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    return pa.Table.from_pylist([_plain(row) for row in rows], schema)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers where a column of floats is wanted would be refused."""
    whole = ("rank", "trial", "epoch", "num_seeds")
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) and name not in whole else value
        for name, value in row.items()
    }

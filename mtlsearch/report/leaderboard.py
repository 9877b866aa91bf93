"""The ranked trials, as a table: complete ones first, best first, then pruned, then failed, then running; at the end
the trials of the final ranking, each with what it trained again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config import TrialConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import write_whole
from mtlsearch.records import EpochMetrics, Scores, TrialRecord
from mtlsearch.search.elsewhere import configs_elsewhere
from mtlsearch.space import flatten

if TYPE_CHECKING:
    import pyarrow as pa

_STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING")
_FIRST = ("trial", "role", "state", "objective")
_FINAL = ("candidate", "repeat")
"""Columns that are there once there are final trials."""
_ELSEWHERE = ("folder",)
"""Column that is there where another driver of a shared study has trials: the folder that those are in."""
_LAST = ("epochs", "best_epoch", "seconds", "reason")


@dataclass(frozen=True)
class Leaderboard:
    """Rows in rank order; every row has every column, None where it has no value."""

    rows: tuple[dict[str, Any], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(self.rows[0]) if self.rows else _FIRST + _LAST

    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        import pyarrow as pa

        return pa.table({name: _column([row[name] for row in self.rows]) for name in self.columns})

    def csv(self) -> str:
        """One header line; texts are quoted, numbers are not, None is nothing."""
        import pyarrow as pa
        from pyarrow import csv

        sink = pa.BufferOutputStream()
        csv.write_csv(self.table(), sink)
        return str(sink.getvalue().to_pybytes().decode())

    def json(self) -> str:
        """A list of objects; a value that is no JSON number (NaN, infinity) is null."""
        return json.dumps([{name: _finite(value) for name, value in row.items()} for row in self.rows], indent=1)

    def write(self, folder: ExperimentFolder) -> None:
        """leaderboard.csv and leaderboard.parquet, each whole."""
        import pyarrow as pa
        from pyarrow import parquet

        write_whole(folder.leaderboard, self.csv())
        sink = pa.BufferOutputStream()
        parquet.write_table(self.table(), sink)
        write_whole(folder.leaderboard.with_suffix(".parquet"), sink.getvalue().to_pybytes())


def read_leaderboard(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> Leaderboard:
    """Ranks the study's trials and joins what their folders hold."""
    ranked = sorted(records, key=_rank)
    elsewhere = configs_elsewhere(folder, records)
    partial = [_row(folder, record, elsewhere.get(record.number)) for record in ranked]
    names = _ordered_names(partial)
    return Leaderboard(tuple({name: row.get(name) for name in names} for row in partial))


def best_epoch(epochs: Sequence[EpochMetrics]) -> EpochMetrics | None:
    """The epoch with the highest objective; the earliest of equals."""
    return max(epochs, key=lambda metrics: metrics.objective, default=None)


def _rank(record: TrialRecord) -> tuple[int, bool, float, int]:
    value = float("-inf") if record.value is None else record.value
    if record.role == "final":
        return (len(_STATES), False, 0.0, record.number)
    return (_STATES.index(record.state), record.role == "baseline", -value, record.number)


def _row(folder: ExperimentFolder, record: TrialRecord, elsewhere: TrialConfig | None) -> dict[str, Any]:
    """
    Args:
        elsewhere: of a trial that is in another driver's folder, its configuration.
    """
    row: dict[str, Any] = {
        "trial": record.number,
        "role": record.role,
        "state": record.state,
        "objective": record.value,
    }
    if record.role == "final":
        row |= {"candidate": record.candidate, "repeat": record.repeat}
    if elsewhere is not None:
        values = record.intermediate
        return (
            row
            | _test_columns(record.test)
            | flatten(elsewhere)
            | {
                "folder": record.folder,
                "epochs": len(values) or None,
                "best_epoch": max(values, key=lambda epoch: values[epoch], default=None),
                "reason": record.reason,
            }
        )
    trial = folder.trial(record.number)
    epochs = trial.epochs()
    best = best_epoch(epochs)
    shown = best if record.state == "COMPLETE" or not epochs else epochs[-1]  # what the objective was taken from
    if shown is not None:
        row |= {f"{task}/{name}": value for task, scores in shown.validation.items() for name, value in scores.items()}
    row |= _test_columns(trial.read_test())
    if trial.order.exists():
        row |= flatten(trial.read_order().config)
    return row | {
        "epochs": len(epochs),
        "best_epoch": best.epoch if best else None,
        "seconds": sum(metrics.seconds for metrics in epochs),
        "reason": record.reason,
    }


def _test_columns(test: Scores | None) -> dict[str, float | None]:
    scored = (test or {}).items()
    return {f"test/{task}/{name}": value for task, scores in scored for name, value in scores.items()}


def _ordered_names(rows: Sequence[dict[str, Any]]) -> list[str]:
    """First and last columns as fixed; scores, then test scores, then parameters, each in the order met."""
    met = dict.fromkeys(name for row in rows for name in row if name not in _FIRST + _LAST)
    final = [name for name in (*_FINAL, *_ELSEWHERE) if name in met]
    scores = [name for name in met if "/" in name and not name.startswith("test/")]
    test = [name for name in met if name.startswith("test/")]
    params = [name for name in met if "/" not in name and name not in final]
    return [*_FIRST, *final, *scores, *test, *params, *_LAST]


def _column(values: list[Any]) -> pa.Array:
    """One type a column; a column of several kinds of values (an enum beside numbers) becomes text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return pa.array([float(value) if isinstance(value, int) and float in kinds else value for value in values])
    return pa.array([None if value is None else str(value) for value in values])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value

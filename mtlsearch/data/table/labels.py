"""A task's labels: from the columns of a table to what a loss takes.

Axes: N rows of a batch, L labels of a multilabel task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mtlsearch.config.table import TableTask
from mtlsearch.config.task import Task
from mtlsearch.data.table.binary import fit_binary
from mtlsearch.data.table.faults import check_each, check_present, floats_of
from mtlsearch.data.table.kinds import as_floats
from mtlsearch.data.table.multiclass import fit_classes
from mtlsearch.data.table.multilabel import fit_list
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import LabelValues


class LabelColumn(Protocol):
    """How one column becomes labels."""

    @property
    def column(self) -> str:
        """Its name."""

    def floats(self, array: Any) -> LabelValues:
        """pyarrow Array [N] → [N] or [N, L]; NaN is missing."""


@dataclass(frozen=True)
class NumberColumn:
    """Regression: the numbers as they are."""

    column: str

    def floats(self, array: Any) -> NDArray[np.float64]:
        """pyarrow Array [N] → float64 [N]: how many of their digits matter is known when all have been seen."""
        return as_floats(array)


@dataclass(frozen=True)
class Labels:
    """A task's labels, and its weights."""

    task: Task
    """With its classes."""
    parts: tuple[LabelColumn, ...]
    weight: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read for them."""
        return tuple(part.column for part in self.parts) + (() if self.weight is None else (self.weight,))

    def floats(self, arrays: Mapping[str, Any]) -> LabelValues:
        """[N], or [N, L] of a multilabel task; float64 of a regression, else float32.

        Args:
            arrays: column → pyarrow Array [N].
        """
        import numpy as np

        columns = [part.floats(arrays[part.column]) for part in self.parts]
        if self.task.kind != "multilabel" or columns[0].ndim == 2:
            return columns[0]
        return np.stack(columns, axis=1, dtype=np.float32)


def fit_labels(reader: TableReader, config: TableTask, task: Task) -> Labels:
    """Looks through the task's columns.

    Args:
        task: without its classes.
    Raises:
        ConfigError: a column does not fit the task's kind, or a weight is missing or negative.
    """
    if config.weight is not None:
        _check_weights(reader, config, config.weight)
    if config.columns is not None:
        flags = tuple(fit_binary(reader, config, column) for column in config.columns)
        return Labels(task.model_copy(update={"classes": config.columns}), flags, config.weight)
    (column,) = config.label_columns
    match config.kind:
        case "binary":
            return Labels(task, (fit_binary(reader, config, column),), config.weight)
        case "multiclass":
            classes = fit_classes(reader, config, column)
            return Labels(task.model_copy(update={"classes": classes.classes}), (classes,), config.weight)
        case "multilabel":
            lists = fit_list(reader, config, column)
            return Labels(task.model_copy(update={"classes": lists.classes}), (lists,), config.weight)
        case "regression":
            return Labels(task, (_fit_numbers(reader, config, column),), config.weight)


def _fit_numbers(reader: TableReader, config: TableTask, column: str) -> NumberColumn:
    _check_plain(reader, config, column)
    for _ in floats_of(reader, column):  # which raises where one is infinite or no number
        pass
    return NumberColumn(column)


def _check_weights(reader: TableReader, config: TableTask, column: str) -> None:
    import pyarrow as pa

    _check_plain(reader, config, column)
    for row, floats_N in floats_of(reader, column):
        check_present(reader, f"task {config.title!r}", column, pa.array(floats_N), row)
        check_each(
            reader,
            column,
            floats_N,
            row,
            lambda each: each < 0,
            "weights of at least 0",
            "A row of weight 0 is ignored.",
        )


def _check_plain(reader: TableReader, config: TableTask, column: str) -> None:
    found = reader.columns[column]
    if found.kind in ("list", "other"):
        raise ConfigError(
            f"task {config.title!r}: column {column!r} must hold numbers, but it is of type {found.arrow}.",
            Where(reader.file),
        )

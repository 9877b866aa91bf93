"""Labels that are one of two values.

Axes: N rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import TableTask
from mtlsearch.data.table.faults import check_each, floats_of, texts_of
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats

PLAIN = ({"0", "1"}, {"false", "true"})
"""Pairs of texts, in lower case, that need no `positive`."""

NO_CODES = "Use 0 and 1, and leave missing labels empty."


@dataclass(frozen=True)
class BinaryColumn:
    """How a column becomes 0 and 1."""

    column: str
    positive: float | str
    """The value that counts as 1: a number of a column of numbers, else a text, in lower case if `plain`."""
    plain: bool = False

    def floats(self, array: Any) -> Floats:
        """pyarrow Array [N] → float32 [N]: 0, 1 or NaN."""
        import numpy as np
        import pyarrow.compute as pc

        if isinstance(self.positive, str):
            texts = as_texts(array)
            texts = pc.utf8_lower(texts) if self.plain else texts
            is_positive, missing = pc.equal(texts, self.positive).fill_null(False), texts.is_null()
            return np.where(np.asarray(missing), np.nan, np.asarray(is_positive)).astype(np.float32)
        floats_N = as_floats(array)
        return np.where(np.isnan(floats_N), np.nan, floats_N == self.positive).astype(np.float32)


def fit_binary(reader: TableReader, task: TableTask, column: str) -> BinaryColumn:
    """Looks through the column.

    Raises:
        ConfigError: it has other than two values, a negative one, or two of which nobody says which is positive.
    """
    kind = reader.columns[column].kind
    if kind in ("list", "other", "date"):
        raise _fault(reader, task, column, f"it is of type {reader.columns[column].arrow}. Use 0 and 1.")
    if kind == "text":
        return _of_texts(reader, task, column)
    return _of_numbers(reader, task, column)


def _of_numbers(reader: TableReader, task: TableTask, column: str) -> BinaryColumn:
    import numpy as np

    found = np.array([])
    for row, floats_N in floats_of(reader, column):
        check_each(reader, column, floats_N, row, lambda floats: floats < 0, "classes, which must be 0 and 1", NO_CODES)
        found = np.union1d(found, floats_N[~np.isnan(floats_N)])
        if len(found) > 2:
            kind = "multiclass" if (found == np.floor(found)).all() else "regression"
            some = ", ".join(f"{value:g}" for value in found[:4])
            raise _fault(reader, task, column, f"it has more, such as {some}. Is the task {kind}?")
    if task.positive is not None:
        return BinaryColumn(column, _number(reader, task, column, [f"{value:g}" for value in found]))
    if not set(found) <= {0, 1}:
        raise _unsaid(reader, task, column, [f"{value:g}" for value in found])
    return BinaryColumn(column, 1.0)


def _of_texts(reader: TableReader, task: TableTask, column: str) -> BinaryColumn:
    import pyarrow.compute as pc

    found: set[str] = set()
    for _, texts in texts_of(reader, column):
        found.update(pc.unique(texts.drop_null()).to_pylist())
        if len(found) > 2 and not _is_plain(found):
            some = ", ".join(map(repr, sorted(found)[:4]))
            raise _fault(reader, task, column, f"it has more, such as {some}. Is the task multiclass?")
    if task.positive is not None:
        positive = _text(task.positive)
        spelled = next((text for text in sorted(found) if text == positive), None) or next(
            (text for text in sorted(found) if isinstance(task.positive, bool) and text.lower() == positive), None
        )
        if spelled is None:
            raise _absent(reader, task, column, sorted(found))
        return BinaryColumn(column, spelled)
    if found and not _is_plain(found):
        raise _unsaid(reader, task, column, sorted(found))
    return BinaryColumn(column, "1" if {text.lower() for text in found} <= PLAIN[0] else "true", plain=True)


def _is_plain(found: set[str]) -> bool:
    return any({text.lower() for text in found} <= pair for pair in PLAIN)


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _number(reader: TableReader, task: TableTask, column: str, found: list[str]) -> float:
    """`positive` of a column of numbers, which must have it."""
    for value in _floats(task.positive):
        if f"{value:g}" in found:
            return value
    raise _absent(reader, task, column, found)


def _floats(value: object) -> Iterator[float]:
    """The number that a value spells, if it does."""
    named = {"true": "1", "false": "0"}
    try:
        yield float(named.get(_text(value).lower(), _text(value)))
    except ValueError:
        return


def _absent(reader: TableReader, task: TableTask, column: str, found: list[str]) -> ConfigError:
    has = " and ".join(map(repr, found)) or "no value at all"
    return _fault(reader, task, column, f"`positive` is {task.positive!r}, and it has {has}. Change `positive`.")


def _unsaid(reader: TableReader, task: TableTask, column: str, found: list[str]) -> ConfigError:
    say = f"Say which counts as 1, for example `positive: {found[-1]}`."
    return _fault(reader, task, column, f"it has {' and '.join(map(repr, found))}. {say}")


def _fault(reader: TableReader, task: TableTask, column: str, found: str) -> ConfigError:
    return ConfigError(f"task {task.title!r}: column {column!r} must have two values, but {found}", Where(reader.file))

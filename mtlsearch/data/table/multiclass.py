"""Labels that are one of several classes.

Axes: N rows of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import TableTask
from mtlsearch.data.table.binary import NO_CODES
from mtlsearch.data.table.faults import check_each, fault, floats_of, texts_of
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats

MAX_CLASSES = 1_000


@dataclass(frozen=True)
class ClassColumn:
    """How a column becomes indices of classes."""

    column: str
    classes: tuple[str, ...]
    """Texts sorted; numbers by size, also where they are texts."""
    numbers: bool
    """Whether the column holds numbers (or flags)."""

    def floats(self, array: Any) -> Floats:
        """pyarrow Array [N] → float32 [N]: the class's index or NaN."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.numbers:
            found = pc.index_in(as_texts(array), value_set=pa.array(self.classes, pa.string()))
            return found.cast(pa.float32()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        floats_N = as_floats(array)
        index_N = np.searchsorted(np.array(self.classes, np.float64), floats_N)
        return np.where(np.isnan(floats_N), np.nan, index_N).astype(np.float32)


def fit_classes(reader: TableReader, task: TableTask, column: str) -> ClassColumn:
    """Looks through the column.

    Raises:
        ConfigError: a class is negative or a fraction, there are fewer than two or more than a thousand.
    """
    kind = reader.columns[column].kind
    if kind in ("list", "other", "date"):
        raise _fault(reader, task, column, f"it is of type {reader.columns[column].arrow}")
    is_text = kind == "text"
    classes = _texts(reader, task, column) if is_text else _numbers(reader, task, column)
    if len(classes) < 2:
        raise _fault(reader, task, column, f"it has {f'only {classes[0]!r}' if classes else 'no value at all'}")
    return ClassColumn(column, classes, not is_text)


def sorted_classes(found: set[str]) -> tuple[str, ...]:
    """Sorted as texts, or by size where all are whole numbers."""
    if all(text.isdecimal() for text in found):
        return tuple(sorted(found, key=lambda text: (int(text), text)))
    return tuple(sorted(found))


def _numbers(reader: TableReader, task: TableTask, column: str) -> tuple[str, ...]:
    import numpy as np

    found = np.array([])
    for row, floats_N in floats_of(reader, column):
        check_each(reader, column, floats_N, row, lambda each: each < 0, "classes, which must be 0, 1, 2, …", NO_CODES)
        check_each(
            reader, column, floats_N, row, _is_fraction, "classes, which must be whole", "Is the task regression?"
        )
        found = np.union1d(found, floats_N[~np.isnan(floats_N)])
        if len(found) > MAX_CLASSES:
            raise _too_many(reader, task, column, row)
    return tuple(str(int(value)) for value in found)


def _texts(reader: TableReader, task: TableTask, column: str) -> tuple[str, ...]:
    import pyarrow.compute as pc

    found: set[str] = set()
    for row, texts in texts_of(reader, column):
        found.update(pc.unique(texts.drop_null()).to_pylist())
        if len(found) > MAX_CLASSES:
            raise _too_many(reader, task, column, row)
    return sorted_classes(found)


def _is_fraction(floats_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    import numpy as np

    fractions: NDArray[np.bool_] = (floats_N != np.floor(floats_N)) & ~np.isnan(floats_N)
    return fractions


def _too_many(reader: TableReader, task: TableTask, column: str, row: int) -> ConfigError:
    return fault(
        reader,
        row,
        f"task {task.title!r}: column {column!r} must have at most {MAX_CLASSES:,} classes",
        "(or a row soon after it) one too many",
        "Is the task regression? Else join rare classes.",
    )


def _fault(reader: TableReader, task: TableTask, column: str, found: str) -> ConfigError:
    return ConfigError(
        f"task {task.title!r}: column {column!r} must have at least two classes, but {found}. "
        "Name another column, or leave the task out.",
        Where(reader.file),
    )

"""Sequences as two tables: one row a sequence, and one row a moment, in order. Both are read like any other table.

They are in memory, with the columns that are needed: numbers as float32, texts as codes of a dictionary.

Axes: N sequences, R moments of all of them one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.table.faults import check_present, numbers
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Ints

SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class SequenceTables:
    """N sequences."""

    rows: TableReader
    """[N]: what a sequence has once."""
    steps: TableReader
    """[R]: what a moment has; sorted by sequence, and within one by time."""
    offset_N: Ints
    """int64 [N + 1]: sequence n's moments are offset[n] … offset[n + 1] - 1, at least one."""
    time_R: NDArray[np.float64] | None
    """In the unit of the time column; seconds where it holds dates."""
    title_N: Any
    """Strings [N]: what messages call a sequence."""
    notes: tuple[str, ...] = ()

    @property
    def num_sequences(self) -> int:
        """N."""
        return len(self.offset_N) - 1


@dataclass(frozen=True)
class MemoryChunk:
    """A table in memory, in place of a file."""

    path: Path
    table: Any
    """pyarrow Table."""

    @property
    def schema(self) -> Any:
        """pyarrow Schema."""
        return self.table.schema

    @property
    def num_rows(self) -> int:
        """Of the table."""
        return int(self.table.num_rows)

    def batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """RecordBatches of at most so many rows, of the named columns."""
        yield from self.table.select(list(names)).to_batches(max_chunksize=rows)


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrangedReader(TableReader):
    """A table in memory whose rows come from another one."""

    original: TableReader
    row_N: Ints
    """Which of the original's rows each one is, or is taken from."""

    def where(self, row: int) -> tuple[Where, int]:
        """Where the row stands in the user's file."""
        return self.original.where(int(self.row_N[row]))


def arranged(table: Any, original: TableReader, row_N: Ints) -> ArrangedReader:
    """A reader of a table whose rows come from the original's rows `row_N`."""
    return ArrangedReader(
        original.file,
        (MemoryChunk(original.file, table),),
        table.schema,
        ((original.file, len(row_N)),),
        original=original,
        row_N=row_N,
    )


def load(reader: TableReader, names: Sequence[str], exact: Sequence[str]) -> dict[str, Any]:
    """Columns in memory. float64 becomes float32, but for those that must stay `exact`."""
    import pyarrow as pa

    def narrow(field: Any, array: Any) -> Any:
        is_wide = pa.types.is_float64(field.type) and field.name not in exact
        return array.cast(pa.float32(), safe=False) if is_wide else array

    fields = [reader.schema.field(name) for name in names]
    chunks: dict[str, list[Any]] = {name: [] for name in names}
    for batch in reader.batches(names) if names else ():
        for field, array in zip(fields, batch.columns, strict=True):
            chunks[field.name].append(narrow(field, array))
    columns = {
        field.name: pa.chunked_array(chunks[field.name], narrow(field, pa.nulls(0, field.type)).type)
        for field in fields
    }
    return {name: _coded(column) for name, column in columns.items()}


def times_of(reader: TableReader, name: str, column: Any, row: int = 0) -> NDArray[np.float64]:
    """Moments as numbers, dates as seconds. Raises ConfigError where one is missing, or no number or date.

    Args:
        reader: for messages: the column's rows are its rows.
    """
    kind = reader.columns[name].kind
    if kind not in ("number", "date"):
        raise ConfigError(
            f"data.sequence.time must be a column of numbers, dates or timestamps, but {name!r} is {kind}. Write "
            "times as 2024-12-31 23:59:59 or as numbers.",
            Where(reader.file),
        )
    check_present(reader, "data.sequence.time", name, column, row)
    floats = numbers(reader, name, column, row)
    return floats * SECONDS_A_DAY if kind == "date" else floats


def first_present(columns: Mapping[str, Any], offset_N: Ints) -> dict[str, Any]:
    """Of each column [R], each sequence's first value that is there → arrays [N]."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for name, column in columns.items():
        present_K = np.flatnonzero(~np.asarray(pc.is_null(column, nan_is_null=True)))
        next_N = np.searchsorted(present_K, offset_N[:-1])
        row_N = np.append(present_K, -1)[next_N]
        missing_N = (row_N < offset_N[:-1]) | (row_N >= offset_N[1:])
        found[name] = column.take(pa.array(np.where(missing_N, 0, row_N), mask=missing_N))
    return found


def _coded(column: Any) -> Any:
    """Texts as codes of one dictionary, for they are sorted and cut."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column.dictionary_encode() if pa.types.is_string(column.type) else column

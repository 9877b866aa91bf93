"""What a table holds, column by column, from an even sample of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.data.table.kinds import ColumnType, as_floats
from mtlsearch.data.table.reader import TableReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE = 200_000
"""Rows that are looked at."""


@dataclass(frozen=True)
class Surveyed:
    """One column."""

    name: str
    type: ColumnType
    values: Any
    """The sample's, as a pyarrow ChunkedArray."""
    missing: int
    """Rows of the sample without a value."""
    counts: Mapping[Any, int]
    """Value → rows of the sample, the most frequent first; empty for lists and what cannot be counted."""

    @property
    def num_distinct(self) -> int:
        """Of the sample's values, missing ones left out."""
        return len(self.counts)

    @property
    def num_present(self) -> int:
        """Rows of the sample with a value."""
        return len(self.values) - self.missing

    @property
    def is_number(self) -> bool:
        """Numbers and flags."""
        return self.type.kind in ("number", "flag")

    def floats(self) -> NDArray[np.float64]:
        """float64 [N] of a number, a flag or a date; NaN is missing."""
        return as_floats(self.values)


@dataclass(frozen=True)
class Survey:
    """A table."""

    num_rows: int
    num_sampled: int
    columns: Mapping[str, Surveyed]
    """In the file's order."""


def look_at(reader: TableReader) -> Survey:
    """Reads the table once.

    Raises:
        ConfigError: a file is damaged.
    """
    import pyarrow as pa

    names = list(reader.columns)
    every = max(1, -(-reader.num_rows // SAMPLE))
    batches, start = [], 0
    for batch in reader.batches(names):
        rows = range(-start % every, batch.num_rows, every)
        batches.append(batch if every == 1 else batch.take(pa.array(rows, pa.int64())))
        start += batch.num_rows
    sample = pa.Table.from_batches(batches)
    columns = {name: _surveyed(name, reader.columns[name], sample.column(name)) for name in names}
    return Survey(reader.num_rows, sample.num_rows, columns)


def _surveyed(name: str, kind: ColumnType, values: Any) -> Surveyed:
    import pyarrow.compute as pc

    if kind.kind in ("list", "other"):
        return Surveyed(name, kind, values, values.null_count, {})
    if (kind.kind == "number" and "float" in str(kind.arrow)) or "double" in str(kind.arrow):
        values = pc.if_else(pc.is_nan(values), None, values)
    counted = pc.value_counts(values.drop_null()).to_pylist()
    counts = {each["values"]: each["counts"] for each in sorted(counted, key=lambda each: -each["counts"])}
    return Surveyed(name, kind, values, values.null_count, counts)

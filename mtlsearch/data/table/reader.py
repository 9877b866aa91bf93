"""A table of any size, whichever file it is in. What is built on it sees columns and record batches only.

    with open_table(path, missing=None, overrides={"zip": "text"}) as reader:
        reader.columns["age"].kind          # "number", "flag", "date", "text", "list" or "other"; in the file's order
        reader.num_rows
        reader.column("age")                # a pyarrow ChunkedArray: the whole column, so few of them at a time
        for batch in reader.batches(["age", "zip"], 65_536):
            as_floats(batch.column(0))      # kinds.py: float64 [N], NaN is missing
            as_texts(batch.column(1))       # strings, null is missing
        reader.where(row)                   # of a row, from 0: its file, with the line where it is a CSV file
        reader.notes                        # what reading taught that a person should know

A CSV file is typed and spooled once, to an Arrow file in a temporary folder, which goes with `close()`, or with the
reader itself. Batches may be asked for again and again, and by several iterators at a time.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mtlsearch.data.csv_fault import line_of
from mtlsearch.data.table.arrow_files import IpcPart, ParquetPart
from mtlsearch.data.table.csv_spool import Overrides, delimiter_of, spool_csv
from mtlsearch.data.table.files import find_files, kind_of
from mtlsearch.data.table.kinds import ColumnType, column_type
from mtlsearch.data.table.unify import lack_notes, unified
from mtlsearch.errors import ConfigError, Where

ROWS = 1 << 16


class Chunk(Protocol):
    """A file, or the spool of one."""

    @property
    def path(self) -> Path:
        """For messages."""

    @property
    def schema(self) -> Any:
        """pyarrow Schema."""

    @property
    def num_rows(self) -> int:
        """Of this file."""

    def batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """RecordBatches."""


@dataclass(frozen=True, eq=False)
class TableReader:
    """An open table; see the module's docstring."""

    file: Path
    """What the user gave: a file, a folder or a glob."""
    chunks: tuple[Chunk, ...]
    schema: Any
    """pyarrow Schema of all chunks: where they differ in width (int64, float64), the one that holds both. A column
    that a chunk lacks is null there."""
    sources: tuple[tuple[Path, int], ...]
    """The user's files with their numbers of rows, in order."""
    notes: tuple[str, ...] = ()
    spool: Path | None = None
    """Temporary folder, where there is one."""
    columns: Mapping[str, ColumnType] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", {each.name: column_type(each.type) for each in self.schema})
        if self.spool is not None:
            weakref.finalize(self, shutil.rmtree, self.spool, ignore_errors=True)

    @property
    def num_rows(self) -> int:
        """Of all files."""
        return sum(rows for _, rows in self.sources)

    def batches(self, names: Sequence[str], rows_per_batch: int = ROWS) -> Iterator[Any]:
        """pyarrow RecordBatches of 1 to so many rows with the named columns in that order, all rows from the start.

        Raises:
            ConfigError: a file is damaged.
        """
        import pyarrow as pa

        schema = pa.schema([self.schema.field(name) for name in names])
        for chunk in self.chunks:
            for batch in _batches(chunk, names, rows_per_batch):
                if batch.num_rows:
                    yield _as(batch, schema)

    def column(self, name: str) -> Any:
        """A whole column as a pyarrow ChunkedArray."""
        import pyarrow as pa

        arrays = [batch.column(0) for batch in self.batches([name])]
        return pa.chunked_array(arrays, self.schema.field(name).type)

    def where(self, row: int) -> tuple[Where, int]:
        """Where a row stands: its file, with the line where it is a CSV file, and its number there, from 1."""
        for path, rows in self.sources:
            if row < rows:
                line = line_of(path, row, delimiter_of(path)) if kind_of(path) == "csv" else None
                return Where(path, line), row + 1
            row -= rows
        raise AssertionError("the table has no such row")

    def close(self) -> None:
        """Removes the spool; batches can no longer be read then."""
        if self.spool is not None:
            shutil.rmtree(self.spool, ignore_errors=True)

    def __enter__(self) -> TableReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_table(
    path: str,
    missing: Sequence[str] | None = None,
    overrides: Overrides | None = None,
    optional: Collection[str] = (),
    *,
    may_be_empty: bool = False,
) -> TableReader:
    """Opens a file, a folder or a glob.

    Args:
        path: see files.py.
        missing: see TableConfig.
        overrides: columns of a CSV file whose type is not to be guessed.
        optional: columns that some of the files may lack: they are null there.
        may_be_empty: whether there may be no rows.
    Raises:
        ConfigError: there is no such file, it is damaged, has no rows though it must, names a column twice, or
            differs from the first one in its other columns.
    """
    place, files = Path(path).expanduser(), find_files(path)
    kind = kind_of(files[0])
    if kind == "csv":
        return _checked(_open_csv(place, files, missing, overrides or {}, optional), may_be_empty)
    chunks: list[Chunk] = [ParquetPart.open(file) if kind == "parquet" else IpcPart.open(file) for file in files]
    schema = unified([(chunk.path, chunk.schema) for chunk in chunks], optional)
    notes = lack_notes([(chunk.path, chunk.schema.names) for chunk in chunks], schema.names)
    reader = TableReader(place, tuple(chunks), schema, tuple((c.path, c.num_rows) for c in chunks), notes)
    return _checked(reader, may_be_empty)


def _open_csv(
    place: Path,
    files: Sequence[Path],
    missing: Sequence[str] | None,
    overrides: Overrides,
    optional: Collection[str],
) -> TableReader:
    spool = Path(tempfile.mkdtemp(prefix="mtlsearch-table-"))
    try:
        spooled = spool_csv(files, spool / "table.arrow", missing, overrides, optional)
        chunk = IpcPart.open(spooled.path)
        sources = tuple(zip(files, spooled.num_rows, strict=True))
        return TableReader(place, (chunk,), chunk.schema, sources, spooled.notes, spool)
    except OSError as error:
        shutil.rmtree(spool, ignore_errors=True)
        raise ConfigError(
            f"the temporary folder must have room for the table, but: {error}. Free some, or set TMPDIR.", Where(spool)
        ) from error
    except BaseException:
        shutil.rmtree(spool, ignore_errors=True)
        raise


def _checked(reader: TableReader, may_be_empty: bool) -> TableReader:
    if reader.num_rows == 0 and not may_be_empty:
        reader.close()
        raise ConfigError("the table must have rows, but it has none.", Where(reader.file))
    return reader


def _batches(chunk: Chunk, names: Sequence[str], rows: int) -> Iterator[Any]:
    """RecordBatches of those of the columns that the chunk has; nulls of its rows where it has none of them."""
    import pyarrow as pa

    has = set(chunk.schema.names)
    if not names or (there := [name for name in names if name in has]):
        yield from chunk.batches(there if names else (), rows)
        return
    for start in range(0, chunk.num_rows, rows):
        yield pa.record_batch([pa.nulls(min(rows, chunk.num_rows - start))], names=[names[0]])


def _as(batch: Any, schema: Any) -> Any:
    """The batch with the table's own columns and types."""
    import pyarrow as pa

    if batch.schema.equals(schema):
        return batch
    return pa.RecordBatch.from_arrays([_column(batch, field) for field in schema], schema=schema)


def _column(batch: Any, field: Any) -> Any:
    """A column of a batch, cast; null where the batch lacks it."""
    import pyarrow as pa

    index = batch.schema.get_field_index(field.name)
    if index < 0 or pa.types.is_null(batch.schema.field(index).type):
        return pa.nulls(batch.num_rows, field.type)
    return batch.column(index).cast(field.type, safe=False)

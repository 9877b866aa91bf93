"""Raw rows, wherever they come from, as pieces that a model can read.

    table_rows(model, reader, keep)     a user's table: one row a row, or sequences, as the experiment's own table was
    source_rows(model, folder)          new files of a built-in data set, in that data set's layout
    split_rows(model, "test")           a split of the experiment's own data

Axes: N rows of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.config import DataConfig
from mtlsearch.data import DataSchema, Split, open_store, tasks_of
from mtlsearch.data.columns import Part, SplitName
from mtlsearch.data.encoders import BinEncoder, CategoricalEncoder
from mtlsearch.data.sources import source_of
from mtlsearch.data.split import StepArrays
from mtlsearch.data.table.faults import check_finite, numbers
from mtlsearch.data.table.kinds import as_texts
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.encode import Unseen, encode_part

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats

ROW = "row"
"""Column of the rows' numbers, from 0, in a built-in data set, whose rows have no other name."""

BATCH_ROWS = 1 << 14
"""Rows that are read and predicted at a time, by default."""

Piece = tuple[list[Any], Split]
"""Arrays [N] of the columns that pass through, and the rows' inputs."""


@dataclass(frozen=True)
class RawRows:
    """Rows in order, piece by piece."""

    kept: Any
    """pyarrow Schema of the columns that pass through."""
    pieces: Callable[[], Iterator[Piece]]
    num_rows: int | None = None
    """None where it is known at the end only."""


def table_rows(
    reader: TableReader, schema: DataSchema, keep: Sequence[str], unseen: Unseen, batch_rows: int = BATCH_ROWS
) -> RawRows:
    """A table whose every line is a row. Columns that are neither inputs nor kept are not read.

    Raises:
        ConfigError: a column is not there; while it is read, one holds what it must not.
    """
    import pyarrow as pa

    number_names = [encoder.name for encoder in schema.numeric]
    text_names = category_names(schema.categorical)
    inputs = [*number_names, *text_names]
    check_has(reader, inputs, "the data must have every column that the model reads")
    check_has(reader, keep, "--keep must name columns of the data")
    check_plain(reader, inputs)

    def pieces() -> Iterator[Piece]:
        row = 0
        for batch in reader.batches(list(dict.fromkeys([*inputs, *keep])), batch_rows):
            part = Part(
                numeric={name: _floats(reader, name, batch.column(name), row) for name in number_names},
                categorical={name: as_texts(batch.column(name)) for name in text_names},
                labels={},
            )
            yield [batch.column(name) for name in keep], encode_part(part, batch.num_rows, schema, unseen)
            row += batch.num_rows

    return RawRows(pa.schema([reader.schema.field(name) for name in keep]), pieces, reader.num_rows)


def source_rows(data: DataConfig, folder: Path, schema: DataSchema, unseen: Unseen) -> RawRows:
    """New files in the layout of a built-in data set; its reader wants their labels too.

    Raises:
        ConfigError: a file is missing or wrong.
    """
    import numpy as np
    import pyarrow as pa

    config = data.model_copy(update={"path": str(folder)})
    columns = source_of(config).read(tasks_of(config))

    def pieces() -> Iterator[Piece]:
        first = 0
        for part in columns.parts():
            count = num_rows(part)
            yield [pa.array(np.arange(first, first + count))], encode_part(part, count, schema, unseen)
            first += count

    return RawRows(pa.schema([(ROW, pa.int64())]), pieces)


def split_rows(data: DataConfig, name: SplitName, schema: DataSchema, batch_rows: int = BATCH_ROWS) -> RawRows:
    """A split of the data that the experiment had.

    Raises:
        ConfigError: the data is gone, or is another now.
    """
    import pyarrow as pa

    store = open_store(data)
    if store.schema.data_digest != schema.data_digest:
        raise ConfigError(
            f"--split {name} is of the data that the model learnt from, {schema.data_digest}, but {data.source} is now "
            f"{store.schema.data_digest}. Restore its files, or give the rows as a table."
        )
    split = store.split(name)

    def pieces() -> Iterator[Piece]:
        for start in range(0, split.num_rows, batch_rows):
            piece = _cut(split, start, min(start + batch_rows, split.num_rows))
            yield [pa.array(piece.row_N)], piece

    return RawRows(pa.schema([(ROW, pa.int64())]), pieces, split.num_rows)


def category_names(encoders: Sequence[CategoricalEncoder | BinEncoder]) -> list[str]:
    """Of the columns that are read as texts."""
    return [encoder.name for encoder in encoders if isinstance(encoder, CategoricalEncoder)]


def num_rows(part: Part) -> int:
    """N."""
    if part.steps is not None:
        return len(part.steps.length_N)
    return len(next(iter((*part.numeric.values(), *part.categorical.values()))))


def check_has(reader: TableReader, names: Sequence[str], must: str) -> None:
    """Raises ConfigError for columns that the table lacks."""
    if lacking := [name for name in names if name not in reader.columns]:
        lower = {name.lower(): name for name in reader.columns}
        nearest = get_close_matches(lacking[0].lower(), list(lower), n=1)
        hint = f" Is it {lower[nearest[0]]!r}?" if nearest else ""
        rest = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        has = ", ".join(list(reader.columns)[:30]) or "none"
        raise ConfigError(f"{must}, but it lacks {lacking[0]!r}{rest}; it has {has}.{hint}", Where(reader.file))


def check_plain(reader: TableReader, names: Sequence[str]) -> None:
    """Raises ConfigError for a column of lists or the like, where one value a row is wanted."""
    for name in names:
        if reader.columns[name].kind in ("list", "other"):
            raise ConfigError(
                f"column {name!r} must hold one value a row, but it is of type {reader.columns[name].arrow}. Write it "
                "as a plain column.",
                Where(reader.file),
            )


def _floats(reader: TableReader, name: str, array: Any, row: int) -> Floats:
    import numpy as np

    floats_N = numbers(reader, name, array, row)
    check_finite(reader, name, floats_N, row)
    return floats_N.astype(np.float32)


def _cut(split: Split, start: int, stop: int) -> Split:
    """Some rows, with their steps; views."""
    rows, steps = slice(start, stop), split.steps
    if steps is not None:
        offset_N = steps.offset_N[start : stop + 1]
        inside = slice(int(offset_N[0]), int(offset_N[-1]))
        steps = StepArrays(
            offset_N - offset_N[0], steps.numeric_MS[inside], steps.categorical_MD[inside], steps.labels_MJ[inside]
        )
    return replace(
        split,
        numeric_NF=split.numeric_NF[rows],
        categorical_NC=split.categorical_NC[rows],
        labels_NL=split.labels_NL[rows],
        weights_NW=split.weights_NW[rows],
        row_N=split.row_N[rows],
        steps=steps,
    )

"""CSV files, typed and written once as an Arrow file.

pyarrow reads every cell as text; cells become numbers, flags or dates here, a batch at a time. Where a later value
does not fit its column's type, the column becomes text: what was written is thrown away, the rest of the file is
looked through for more of the kind, and the pass starts again. No column can change more than twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from mtlsearch.data.csv_fault import check_quotes, conversion_fault, line_of, plain_rows
from mtlsearch.data.csv_stream import open_csv
from mtlsearch.data.table.csv_types import CsvColumn
from mtlsearch.data.table.unify import common_names, lack_notes
from mtlsearch.errors import ConfigError, Where

BLOCK = 4 << 20
"""Bytes that are parsed at once; a line cannot be longer."""

MOSTLY_NUMBERS = 0.9

Overrides: TypeAlias = Mapping[str, Literal["number", "text"]]
"""Columns whose type is not to be guessed."""


@dataclass(frozen=True)
class Spooled:
    """What the files became."""

    path: Path
    num_rows: tuple[int, ...]
    """Of each file."""
    notes: tuple[str, ...]


def spool_csv(
    files: Sequence[Path],
    target: Path,
    missing: Sequence[str] | None,
    overrides: Overrides,
    optional: Collection[str] = (),
) -> Spooled:
    """Writes all rows of all files; their columns may be in any order, and of the optional ones a file may lack some.

    Raises:
        ConfigError: a file is damaged, ragged, not UTF-8, has other columns than the first, no column, or text in a
            column that is said to hold numbers.
    """
    headers = [(file, _header(file)) for file in files]
    names = common_names(headers, optional, line=1)
    columns = [CsvColumn(name, missing, overrides.get(name)) for name in names]
    num_rows = None
    while num_rows is None:  # ends: a column's type only ever changes from unknown to one, and from that to text
        num_rows = _pass(files, columns, target)
    return Spooled(target, num_rows, (*_notes(files, columns), *lack_notes(headers, names)))


def delimiter_of(path: Path) -> str:
    """A tab in a .tsv; else the comma, unless the first line has none but semicolons or tabs."""
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    with open_csv(path) as stream:
        line = stream.readline()
    return next((mark for mark in ",;\t" if mark.encode() in line), ",")


def _header(path: Path) -> list[str]:
    _, names = next(plain_rows(path, delimiter_of(path)), (1, []))
    if not names:
        raise ConfigError("the file must have a header and rows, but it is empty.", Where(path))
    return names


def _pass(files: Sequence[Path], columns: Sequence[CsvColumn], target: Path) -> tuple[int, ...] | None:
    """Rows of each file, all written; None when a column changed its type on the way."""
    import pyarrow as pa

    for column in columns:
        column.start()
    writer: Any = None
    schema: Any = None
    num_rows = [0] * len(files)
    try:
        for number, file in enumerate(files):
            for batch in _texts(file, [column.name for column in columns]):
                arrays = [
                    _converted(column, _cells(batch, column.name), file, (number, num_rows[number]))
                    for column in columns
                ]
                num_rows[number] += batch.num_rows
                now = pa.schema([(column.name, column.type) for column in columns])
                if writer is None:
                    writer, schema = _writer(target, now), now
                if now == schema:
                    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        if writer is None:
            schema = now = pa.schema([(column.name, column.type) for column in columns])
            writer = _writer(target, schema)
    finally:
        if writer is not None:
            writer.close()
    return tuple(num_rows) if now == schema else None


def _writer(target: Path, schema: Any) -> Any:
    import pyarrow as pa

    return pa.ipc.new_file(str(target), schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))


def _texts(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """RecordBatches of strings; an empty cell is null."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    if _ends_after_a_line(path):
        return
    delimiter, last = delimiter_of(path), pa.array([])
    try:
        with (
            open_csv(path) as stream,
            arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(block_size=BLOCK),
                parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
                ),
            ) as reader,
        ):
            for batch in reader:
                yield batch
                last = batch.column(batch.num_columns - 1)
    except pa.ArrowInvalid as error:
        raise conversion_fault(path, {}, None, (), str(error), delimiter) from error
    if len(last) and "\n" in (last[-1].as_py() or ""):  # as when a quote is not closed: pyarrow takes that as it is
        check_quotes(path, delimiter)


def _cells(batch: Any, name: str) -> Any:
    """A column's strings, by its name; all null where the file lacks it."""
    import pyarrow as pa

    index = batch.schema.get_field_index(name)
    return batch.column(index) if index >= 0 else pa.nulls(batch.num_rows, pa.string())


def _ends_after_a_line(path: Path) -> bool:
    """A header only; pyarrow refuses one without a newline."""
    with open_csv(path) as stream:
        stream.readline()
        return not stream.read(1)


def _converted(column: CsvColumn, texts: Any, file: Path, place: tuple[int, int]) -> Any:
    array = column.convert(texts, place)
    if array is None:
        (_, row), value = column.odd or (place, "")
        raise ConfigError(
            f"column {column.name!r} must hold numbers, but here stands {value!r}. Mend it, or add it to data.missing.",
            Where(file, line_of(file, row, delimiter_of(file))),
        )
    return array


def _notes(files: Sequence[Path], columns: Sequence[CsvColumn]) -> Iterator[str]:
    for column in columns:
        if column.odd is not None and column.share_of_numbers > MOSTLY_NUMBERS:
            (number, row), value = column.odd
            share = min(99.9, 100 * column.share_of_numbers)
            line = line_of(files[number], row, delimiter_of(files[number]))
            yield (
                f"{column.name!r} is taken as text, though {share:.1f} % of its values are numbers: line {line} of "
                f"{files[number].name} holds {value!r}. Add it to data.missing, or mend it; if it is meant so, say "
                f"`{column.name}: category` under data.columns."
            )

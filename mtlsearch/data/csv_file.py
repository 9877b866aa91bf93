"""A CSV file as a pyarrow table; what is wrong with it is said by line and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mtlsearch.data.csv_fault import LARGEST, check_header, conversion_fault
from mtlsearch.data.csv_stream import open_csv
from mtlsearch.errors import ConfigError, Where

Table = Any
"""A pyarrow Table."""


def read_csv(
    path: Path,
    columns: Mapping[str, str],
    names: Sequence[str] | None = None,
    missing: Sequence[str] = ("", "NA"),
) -> Table:
    """The named columns of a CSV file, in one chunk each.

    Args:
        path: plain, .gz or .zip.
        columns: name → "number" (float64) or "text" (string, trimmed).
        names: all the file's columns in order, when it has no header.
        missing: what stands for a missing number; a text is never missing.
    Raises:
        ConfigError: damaged, ragged, no such column, text where a number belongs, not UTF-8.
    """
    import pyarrow as pa

    if names is None:
        check_header(path, columns)
    try:
        with open_csv(path) as stream:
            table = _parsed(stream, columns, names, missing)
    except pa.ArrowInvalid as error:
        raise conversion_fault(path, columns, names, missing, str(error)) from error
    if table.num_rows == 0:
        raise ConfigError("the file must have rows, but it has none.", Where(path))
    if not all(_is_finite(table.column(name)) for name, kind in columns.items() if kind == "number"):
        raise conversion_fault(path, columns, names, missing, "it has infinite numbers")
    return _trimmed(table, columns)


def _parsed(
    stream: IO[bytes], columns: Mapping[str, str], names: Sequence[str] | None, missing: Sequence[str]
) -> Table:
    import pyarrow as pa
    from pyarrow import csv

    types = {"number": pa.float64(), "text": pa.dictionary(pa.int32(), pa.string())}
    return csv.read_csv(
        stream,
        read_options=csv.ReadOptions(column_names=names, block_size=8 << 20),
        convert_options=csv.ConvertOptions(
            column_types={name: types[kind] for name, kind in columns.items()},
            include_columns=list(columns),
            null_values=[*missing, *(f" {text}" for text in missing)],
            strings_can_be_null=False,
        ),
    ).combine_chunks()


def _is_finite(column: Any) -> bool:
    import numpy as np

    return not (np.abs(column.to_numpy()) > LARGEST).any()


def _trimmed(table: Table, columns: Mapping[str, str]) -> Table:
    """Texts as plain strings without the spaces around them; trimmed once a category, not once a row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, name in enumerate(table.column_names):
        if columns[name] == "text":
            coded = table.column(name).chunk(0)
            text = pc.utf8_trim_whitespace(coded.dictionary).take(coded.indices)
            table = table.set_column(index, name, pa.chunked_array([text]))
    return table

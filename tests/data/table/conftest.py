"""Small tables in every kind of file."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, feather, parquet

from mtlsearch.config import TableConfig
from mtlsearch.data.columns import Columns
from mtlsearch.data.table import Table
from mtlsearch.errors import ConfigError

WriteTable = Callable[..., Path]
ReadTable = Callable[..., Columns]
Fault = Callable[..., str]


def write_file(path: Path, table: pa.Table) -> Path:
    """By the path's extension."""
    match path.suffixes:
        case [".parquet"]:
            parquet.write_table(table, path, row_group_size=50)
        case [".feather"]:
            feather.write_feather(table, path, chunksize=5)
        case [".arrow"]:
            with pa.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=5)
        case _:
            _write_csv(path, table)
    return path


def _write_csv(path: Path, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    csv.write_csv(table, sink, csv.WriteOptions(delimiter="\t" if ".tsv" in path.suffixes else ","))
    text = sink.getvalue().to_pybytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(path.stem, text)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Writes columns to a file of the temporary folder."""

    def write(columns: Mapping[str, Sequence[Any] | pa.Array], name: str = "table.parquet") -> Path:
        return write_file(tmp_path / name, pa.table(dict(columns)))

    return write


@pytest.fixture
def read_table() -> ReadTable:
    """Reads a table by its path and the options of a TableConfig; a task may be its column's name and its kind."""

    def read(path: Path | str, *tasks: Any, **options: Any) -> Columns:
        given = [{"column": each[0], "kind": each[1]} if isinstance(each, tuple) else each for each in tasks]
        source = Table(TableConfig.model_validate({"path": str(path), "tasks": given, **options}))
        return source.read(source.tasks)

    return read


@pytest.fixture
def fault(tmp_path: Path, read_table: ReadTable) -> Fault:
    """The message of the ConfigError that reading ends with, without the folder."""

    def message(path: Path | str, *tasks: Any, **options: Any) -> str:
        with pytest.raises(ConfigError) as error:
            read_table(path, *(tasks or (("y", "binary"),)), **options)
        return str(error.value).replace(f"{tmp_path}/", "")

    return message

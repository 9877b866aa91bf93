"""`mtlsearch predict`: a file of raw rows in, a file of predictions out, piece by piece."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlsearch.errors import ConfigError
from mtlsearch.export.encode import Unseen
from mtlsearch.export.model import Model, load_model
from mtlsearch.export.raw_rows import RawRows
from mtlsearch.export.request import Request, check_apart


@dataclass(frozen=True)
class Predicted:
    """What was written."""

    num_rows: int
    notes: tuple[str, ...]
    """What a user should know of the rows, a sentence each."""


def predict_file(path: Path, request: Request, out: Path) -> Predicted:
    """Loads the model and writes the file, which appears whole or not at all.

    Raises:
        ConfigError: the model is none, the rows are not there or hold what they must not.
    """
    model, unseen = load_model(path), Unseen()
    check_apart(out, str(path), "the model")
    if request.split is not None:
        for read in model.learnt_from:
            check_apart(out, read, "the data that the model learnt from")
        rows = model.split(request.split, request.batch_rows)
    else:
        assert request.data is not None
        rows = model.open_rows(request.data, request.keep, unseen, request.static, request.batch_rows)
    num_rows = _write(model, rows, out, None if request.allow_unseen else unseen)
    return Predicted(num_rows, tuple(unseen.sentences))


def _write(model: Model, rows: RawRows, out: Path, refused: Unseen | None) -> int:
    """Writes aside, then renames; the file's extension says what it is.

    Args:
        refused: what may not stay empty.
    Returns:
        How many rows there are.
    """
    done, aside = 0, out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with _writer(aside, out.suffix.lower(), model.schema(rows)) as writer:
            for batch in model.batches(rows):
                if refused is not None:
                    refused.check("--allow-unseen")
                writer.write_batch(batch)
                done += batch.num_rows
                _show(done, rows.num_rows)
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    return done


def _show(done: int, total: int | None) -> None:
    """How far it is, on a terminal, in place."""
    if sys.stderr.isatty():
        of = "" if total is None else f" of {total:,}"
        sys.stderr.write(f"\r{done:,}{of} rows" + ("\n" if done == total else ""))


@contextmanager
def _writer(aside: Path, extension: str, schema: Any) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv, parquet

    match extension:
        case ".parquet":
            with parquet.ParquetWriter(aside, schema) as writer:
                yield writer
        case ".csv":
            if lists := [field.name for field in schema if pa.types.is_nested(field.type)]:
                raise ConfigError(f"a CSV file cannot hold lists, but column {lists[0]!r} has them. Write .parquet.")
            with csv.CSVWriter(aside, schema) as writer:
                yield writer
        case _:
            with pa.ipc.new_file(aside, schema) as writer:
                yield writer

"""Parquet and Arrow IPC files, read in record batches: no more of them than that is ever in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlsearch.errors import ConfigError, Where

BUFFER = 1 << 16
"""Bytes of a column of a Parquet file that are read at once; else it would be all of a row group."""


@dataclass(frozen=True)
class ParquetPart:
    """A Parquet file."""

    path: Path
    schema: Any
    """pyarrow Schema."""
    num_rows: int

    @classmethod
    def open(cls, path: Path) -> ParquetPart:
        """Reads the footer. Raises ConfigError when it is damaged."""
        from pyarrow import parquet

        with whole(path), parquet.ParquetFile(path) as file:
            return cls(path, file.schema_arrow, file.metadata.num_rows)

    def batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """RecordBatches of at most so many rows, of the named columns."""
        from pyarrow import parquet

        with whole(self.path), parquet.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(names)):
                yield batch.select(list(names))


@dataclass(frozen=True)
class IpcPart:
    """An Arrow IPC file (Feather), or a stream of it in a file."""

    path: Path
    schema: Any
    """pyarrow Schema."""
    num_rows: int

    @classmethod
    def open(cls, path: Path) -> IpcPart:
        """Counts the rows by the batches' heads. Raises ConfigError when it is damaged."""
        with _ipc(path, None) as (schema, _):
            pass
        with _ipc(path, [0] if len(schema) else None) as (_, batches):
            return cls(path, schema, sum(batch.num_rows for batch in batches))

    def batches(self, names: Sequence[str], rows: int) -> Iterator[Any]:
        """RecordBatches of at most so many rows, of the named columns."""
        wanted = sorted(self.schema.get_field_index(name) for name in names)
        with _ipc(self.path, wanted) as (_, batches):
            for batch in batches:
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows).select(list(names))


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns pyarrow's words for a damaged file into a ConfigError."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"the file must be whole and readable, but: {error}. Write it again.", Where(path)) from error


@contextmanager
def _ipc(path: Path, fields: Sequence[int] | None) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema and the batches, with these fields alone."""
    import pyarrow as pa

    options = pa.ipc.IpcReadOptions(included_fields=fields)
    with whole(path), pa.memory_map(str(path)) as source:
        is_file = bytes(source.read(6)) == b"ARROW1"
        source.seek(0)
        if is_file:
            with pa.ipc.open_file(source, options=options) as reader:
                yield reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            with pa.ipc.open_stream(source, options=options) as stream:
                yield stream.schema, iter(stream)

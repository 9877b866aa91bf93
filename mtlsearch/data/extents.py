"""Where a split's columns lie in its files, for who reads rows instead of mapping them.

Axes: N rows, W width of a column's matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtlsearch.data.arrow import rows_path, steps_path
from mtlsearch.data.columns import SplitName
from mtlsearch.errors import ConfigError, Where


@dataclass(frozen=True)
class Extent:
    """A column: row n's bytes begin at start + n · row_bytes."""

    start: int
    """Bytes from the file's begin."""
    width: int
    """W; 1 for a column that is no matrix."""
    dtype: str
    """numpy's name of an element's type."""
    row_bytes: int


@dataclass(frozen=True)
class FileExtents:
    """One Arrow file: [N, W] matrices one behind the other."""

    path: Path
    num_rows: int
    columns: Mapping[str, Extent]


@dataclass(frozen=True)
class SplitExtents:
    """A split's files."""

    rows: FileExtents
    steps: FileExtents | None
    """None where a row is not a sequence."""

    @property
    def num_bytes(self) -> int:
        """Of all columns."""
        files = (self.rows,) if self.steps is None else (self.rows, self.steps)
        return sum(file.num_rows * column.row_bytes for file in files for column in file.columns.values())


def split_extents(folder: Path, name: SplitName) -> SplitExtents:
    """Asks Arrow for addresses, so that nothing here knows its format; no column is read.

    Raises:
        ConfigError: a file is missing or cut off.
    """
    steps = steps_path(folder, name)
    return SplitExtents(_file(rows_path(folder, name)), _file(steps) if steps.exists() else None)


def _file(path: Path) -> FileExtents:
    import pyarrow as pa

    try:
        whole = pa.memory_map(str(path)).read_buffer()
        batch = pa.ipc.open_file(whole).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(
            "the store's file must be there and whole, but is not. Remove its folder; it is made again.",
            Where(path),
        ) from error
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 1
        flat = column.values if pa.types.is_fixed_size_list(column.type) else column
        dtype, values = flat.type.to_pandas_dtype()().dtype, flat.buffers()[1]
        start = values.address - whole.address if width and values is not None and len(batch) else 0
        columns[name] = Extent(start, width, dtype.name, width * dtype.itemsize)
    return FileExtents(path, batch.num_rows, columns)

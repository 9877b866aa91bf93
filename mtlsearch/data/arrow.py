"""A split ⇄ Arrow IPC files: one batch of fixed-size lists each, so that a column is one contiguous matrix.

NAME.arrow has a row a row; NAME.steps.arrow, where rows are sequences, a row a step. Parts are appended to plain
files first and framed as Arrow at the end, from their memory maps: a split may be larger than memory.

Axes: N rows, M steps, W width of the list.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from io import RawIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mtlsearch.data.columns import SplitName
from mtlsearch.data.split import Split, StepArrays
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray


PIECE = 64 << 20
"""Bytes of a mapped file that are copied at once."""


class MatrixFile:
    """Columns, matrices all, that grow part by part and become one Arrow file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: dict[str, _Column] = {}
        self._num_rows = 0

    def append(self, columns: dict[str, NDArray[Any]]) -> None:
        """Adds rows: name → [N, W] or [N]."""
        for name, array_NW in columns.items():
            if name not in self._columns:
                self._columns[name] = _Column(self.path.with_suffix(f".{name}"), array_NW)
            self._columns[name].append(array_NW)
        self._num_rows += len(array_NW)

    def finish(self) -> None:
        """Writes the file and waits until the disk has it; what was beside it is removed."""
        import pyarrow as pa

        arrays = {name: column.array(self._num_rows) for name, column in self._columns.items()}
        batch = pa.record_batch(list(arrays.values()), names=list(arrays))
        maps = [column.map for column in self._columns.values() if column.map is not None]
        with self.path.open("wb") as file:
            with pa.ipc.new_file(_Releasing(file, maps), batch.schema) as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        for column in self._columns.values():
            column.path.unlink()


class _Column:
    def __init__(self, path: Path, like_NW: NDArray[Any]) -> None:
        self.path, self.dtype = path, like_NW.dtype
        self.width = like_NW.shape[1] if like_NW.ndim == 2 else None
        self.map: mmap.mmap | None = None
        """The file, once it is complete; None when it is empty."""
        self._file = path.open("wb")

    def append(self, array_NW: NDArray[Any]) -> None:
        import numpy as np

        np.ascontiguousarray(array_NW, self.dtype).tofile(self._file)

    def array(self, num_rows: int) -> Any:
        """As an Arrow array over the file's memory map."""
        import pyarrow as pa

        self._file.close()
        if self.path.stat().st_size > 0:
            with self.path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        buffer = pa.py_buffer(b"" if self.map is None else self.map)
        kind = pa.from_numpy_dtype(self.dtype)
        flat = pa.Array.from_buffers(kind, buffer.size // self.dtype.itemsize, [None, buffer])
        if self.width is None:
            return flat
        # Built from its parts because from_arrays cannot tell the number of rows of lists of width 0.
        return pa.FixedSizeListArray.from_buffers(pa.list_(kind, self.width), num_rows, [None], children=[flat])


class _Releasing(RawIOBase):
    """Writes a mapped buffer piece by piece and lets go of each piece's pages: they count as this process's memory."""

    def __init__(self, file: IO[bytes], maps: Sequence[mmap.mmap]) -> None:
        import numpy as np

        super().__init__()
        self._file = file
        self._maps = {np.frombuffer(each, np.uint8).ctypes.data: each for each in maps}

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """All of it. A column's buffer comes from Arrow uncopied, and so at the start of its map."""
        view, mapped = memoryview(data).cast("B"), self._maps.get(getattr(data, "address", 0))
        for start in range(0, len(view), PIECE):
            self._file.write(view[start : start + PIECE])
            if mapped is not None:
                mapped.madvise(mmap.MADV_DONTNEED, start, min(PIECE, len(mapped) - start))
        return len(view)


class SplitFiles:
    """One split's files, written part by part."""

    def __init__(self, folder: Path, name: SplitName) -> None:
        self._rows = MatrixFile(rows_path(folder, name))
        self._steps: MatrixFile | None = None
        self._steps_path = steps_path(folder, name)
        self._num_steps = 0

    def append(self, part: Split) -> None:
        """Adds the rows of a part."""
        columns: dict[str, NDArray[Any]] = {
            "numeric": part.numeric_NF,
            "categorical": part.categorical_NC,
            "labels": part.labels_NL,
            "weights": part.weights_NW,
            "row": part.row_N,
        }
        if part.steps is not None:
            self._steps = self._steps or MatrixFile(self._steps_path)
            columns["end"] = part.steps.offset_N[1:] + self._num_steps
            self._num_steps += int(part.steps.offset_N[-1])
            self._steps.append(
                {
                    "numeric": part.steps.numeric_MS,
                    "categorical": part.steps.categorical_MD,
                    "labels": part.steps.labels_MJ,
                }
            )
        self._rows.append(columns)

    def finish(self) -> None:
        """Writes the Arrow files."""
        self._rows.finish()
        if self._steps is not None:
            self._steps.finish()


def rows_path(folder: Path, name: SplitName) -> Path:
    """The file with a row a row."""
    return folder / f"{name}.arrow"


def steps_path(folder: Path, name: SplitName) -> Path:
    """The file with a row a step; there only where rows are sequences."""
    return folder / f"{name}.steps.arrow"


def read_split(folder: Path, name: SplitName) -> Split:
    """Maps a split's files; nothing but the sequences' ends is copied, and the arrays keep the maps alive."""
    rows = _batch(rows_path(folder, name))
    return Split(
        name=name,
        numeric_NF=_view(rows, "numeric"),
        categorical_NC=_view(rows, "categorical"),
        labels_NL=_view(rows, "labels"),
        weights_NW=_view(rows, "weights"),
        row_N=rows.column("row").to_numpy(),
        steps=_steps(folder, name, rows) if "end" in rows.schema.names else None,
    )


def _steps(folder: Path, name: SplitName, rows: Any) -> StepArrays:
    import numpy as np

    steps = _batch(steps_path(folder, name))
    end_N = rows.column("end").to_numpy()
    return StepArrays(
        offset_N=np.concatenate([np.zeros(1, np.int64), end_N]),
        numeric_MS=_view(steps, "numeric"),
        categorical_MD=_view(steps, "categorical"),
        labels_MJ=_view(steps, "labels"),
    )


def _batch(path: Path) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(
            "the store's file must be there and whole, but is not. Remove its folder; it is made again.",
            Where(path),
        ) from error


def _view(batch: Any, name: str) -> NDArray[Any]:
    import numpy as np

    column = batch.column(name)
    width = column.type.list_size
    if width == 0:
        return np.empty((len(column), 0), column.type.value_type.to_pandas_dtype())
    view: NDArray[Any] = column.values.to_numpy(zero_copy_only=True).reshape(len(column), width)
    return view

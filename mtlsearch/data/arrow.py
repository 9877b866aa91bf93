"""A split ⇄ an Arrow IPC file: one batch of fixed-size lists, so that a column is one contiguous matrix.

Axes: N rows, W width of the list (F, C or K).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.columns import SplitName
from mtlsearch.data.split import Split
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_split(split: Split, folder: Path) -> None:
    """Writes FOLDER/NAME.arrow and waits until the disk has it."""
    import pyarrow as pa

    columns = {
        "numeric": _matrix(split.numeric_NF),
        "categorical": _matrix(split.categorical_NC),
        "labels": _matrix(split.labels_NK),
        "row": pa.array(split.row_N),
    }
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    with (folder / f"{split.name}.arrow").open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())


def read_split(folder: Path, name: SplitName) -> Split:
    """Maps FOLDER/NAME.arrow; nothing is copied, and the arrays keep the map alive."""
    import numpy as np
    import pyarrow as pa

    path = folder / f"{name}.arrow"
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, pa.ArrowInvalid) as error:
        raise ConfigError(
            "the store's file must be there and whole, but is not. Remove its folder; it is made again.",
            Where(path),
        ) from error
    return Split(
        name=name,
        numeric_NF=_view(batch.column("numeric"), np.float32),
        categorical_NC=_view(batch.column("categorical"), np.int32),
        labels_NK=_view(batch.column("labels"), np.float32),
        row_N=batch.column("row").to_numpy(),
    )


def _matrix(array_NW: NDArray[Any]) -> Any:
    import pyarrow as pa

    flat, width = pa.array(array_NW.reshape(-1)), array_NW.shape[1]
    kind = pa.list_(flat.type, width)
    # Built from its parts because from_arrays cannot tell the number of rows of lists of width 0.
    return pa.FixedSizeListArray.from_buffers(kind, len(array_NW), [None], children=[flat])


def _view(column: Any, dtype: Any) -> NDArray[Any]:
    import numpy as np

    width = column.type.list_size
    if width == 0:
        return np.empty((len(column), 0), dtype)
    view: NDArray[Any] = column.values.to_numpy(zero_copy_only=True).reshape(len(column), width)
    return view

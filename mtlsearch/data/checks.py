"""What must hold of a source's columns before they are worth training on. (Of its labels: `labels.check_labels`.)

Axes: N rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.data.columns import SPLITS, Columns
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats


def check_rows(columns: Columns, file: Path | None) -> None:
    """Raises ConfigError for a split without rows."""
    for name in SPLITS:
        if not len(columns.rows[name]):
            raise ConfigError(f"every split must have rows, but {name} is empty. Add rows for it.", _where(file))


def check_finite(name: str, column_N: Floats, first_row: int, file: Path | None) -> None:
    """Raises ConfigError for an infinite value; NaN is a missing one. `first_row` is the first value's row."""
    import numpy as np

    infinite_N = np.isinf(column_N if column_N.ndim == 1 else column_N.sum(axis=1))
    if infinite_N.any():
        index = int(infinite_N.argmax())
        raise ConfigError(
            f"column {name!r} must be finite, but data row {first_row + index + 1} holds {column_N[index]}. "
            "Leave a missing value empty.",
            _where(file),
        )


def _where(file: Path | None) -> Where | None:
    return Where(file) if file is not None else None

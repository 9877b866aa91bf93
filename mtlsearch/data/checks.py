"""What must hold of a source's columns before they are worth training on. (Of labels: labels.py.)

Axes: N rows, L labels of a multilabel task.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.data.columns import SPLITS, Columns
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import LabelValues


def check_rows(columns: Columns, file: Path | None) -> None:
    """Raises ConfigError for an empty split."""
    for name in SPLITS:
        if not len(columns.rows[name]):
            raise ConfigError(f"every split must have rows, but {name} is empty. Add rows for it.", _where(file))


def check_finite(name: str, column_N: LabelValues, first_row: int, file: Path | None) -> None:
    """Raises ConfigError for the first infinite value; NaN is a missing one.

    Args:
        column_N: [N], or [N, L].
        first_row: the number, from 0, of its first row in the source.
    """
    import numpy as np

    infinite = np.isinf(column_N)
    if infinite.any():
        row = int(np.argwhere(infinite)[0, 0])
        raise ConfigError(
            f"column {name!r} must be finite, but data row {first_row + row + 1} holds {column_N[infinite][0]}. "
            "Leave a missing value empty.",
            _where(file),
        )


def _where(file: Path | None) -> Where | None:
    return None if file is None else Where(file)

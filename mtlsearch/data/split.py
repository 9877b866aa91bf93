"""One split of a data set, as arrays over its memory-mapped file.

Axes: N rows, F numeric columns, C categorical columns, K tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtlsearch.data.columns import SplitName

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Indices, Ints


@dataclass(frozen=True)
class Split:
    """Read-only C-contiguous arrays; their pages are shared by every process that opens the store."""

    name: SplitName
    numeric_NF: Floats
    """float32, standardised; a missing value is 0, and its indicator column, if there is one, is 1."""
    categorical_NC: Indices
    """int32 below the column's cardinality; 0 is a category that train does not have, 1 is missing."""
    labels_NK: Floats
    """float32 in original units (0 or 1 for a binary task); NaN is missing."""
    row_N: Ints
    """int64: the row's number in the source, for looking it up there."""

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.row_N)

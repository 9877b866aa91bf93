"""One split of a data set, as arrays over its memory-mapped file.

Axes: N rows, F numeric columns, C categorical columns, L label columns, W tasks with weights; of sequences also
M steps one after another, S numeric and D categorical columns a step, J label columns a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtlsearch.data.columns import SplitName

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Indices, Ints


@dataclass(frozen=True)
class StepArrays:
    """The steps of a split's sequences: row n's are offset[n] … offset[n + 1] - 1."""

    offset_N: Ints
    """int64 [N + 1]."""
    numeric_MS: Floats
    categorical_MD: Indices
    labels_MJ: Floats
    """Labels of the tasks that have one a step, in task order."""


@dataclass(frozen=True)
class Split:
    """Read-only C-contiguous arrays; their pages are shared by every process that opens the store."""

    name: SplitName
    numeric_NF: Floats
    """float32, encoded; a missing value is 0, and its indicator column, if there is one, is 1."""
    categorical_NC: Indices
    """int32 below the column's cardinality; 0 is a category that train does not have, 1 is missing."""
    labels_NL: Floats
    """float32, of the tasks that have one label a row, in task order, a multilabel task's labels side by side:
    original units, less the mean for those tasks that the schema calls centred, 0 or 1, or the class's index; NaN is
    missing."""
    weights_NW: Floats
    """float32, of the tasks that the schema calls weighted, in its order."""
    row_N: Ints
    """int64: the row's number in the source, for looking it up there."""
    steps: StepArrays | None = None
    """None where a row is not a sequence."""

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.row_N)

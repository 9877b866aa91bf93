"""One training batch on this rank's device: inputs, labels, weights.

Axes: P predictions (the rows of a table, or the steps of sequences at which an output is wanted), L label columns.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mtlsearch.models import Inputs


class Batch(NamedTuple):
    """What one step sees; of a sequence, all its predictions."""

    inputs: Inputs

    labels_PL: Tensor
    """float32, scaled as the loss wants them: 0 or 1, a class's index, a standardised number; NaN where missing.
    Columns in task order, a multilabel task's side by side."""

    weight_PL: Tensor | None = None
    """float32, how much each label counts in its task's mean; None where every one counts 1."""

    row_P: Tensor | None = None
    """int64: the batch row (sequence) of each prediction; None for a table, whose rows they are."""

    @property
    def num_rows(self) -> int:
        """Rows, or sequences."""
        return len(self.inputs.numeric_BF)

"""Numbers measured at moments of sequences, in the long form that everything else here reads.

Axes: N sequences, V variables, K measurements, R rows that hold a number of every variable at one moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats


@dataclass(frozen=True)
class Measurements:
    """Sorted by sequence, and within one by time; of the same moment the later one counts as the last."""

    sequence_K: NDArray[np.integer[Any]]
    """0 … N - 1."""
    time_K: NDArray[np.number[Any]]
    variable_K: NDArray[np.integer[Any]]
    """0 … V - 1."""
    value_K: NDArray[np.floating[Any]]
    """Never NaN."""
    num_sequences: int
    num_variables: int

    def of(self, first: int, stop: int) -> Measurements:
        """Those of the sequences first … stop - 1, which become 0 …; nothing but the numbers is copied."""
        import numpy as np

        # The needles have the haystack's type: otherwise numpy would copy the haystack to theirs.
        bounds = np.array([first, stop], self.sequence_K.dtype)
        low, high = np.searchsorted(self.sequence_K, bounds)
        return Measurements(
            self.sequence_K[low:high] - first,
            self.time_K[low:high],
            self.variable_K[low:high],
            self.value_K[low:high],
            stop - first,
            self.num_variables,
        )


def in_order(measurements: Measurements) -> Measurements:
    """The same, sorted; measurements of one moment keep their order."""
    import numpy as np

    sequence_K, time_K = measurements.sequence_K, measurements.time_K
    later_K = (sequence_K[1:] > sequence_K[:-1]) | ((sequence_K[1:] == sequence_K[:-1]) & (time_K[1:] >= time_K[:-1]))
    if later_K.all():
        return measurements
    order_K = np.lexsort((time_K, sequence_K))
    return Measurements(
        sequence_K[order_K],
        time_K[order_K],
        measurements.variable_K[order_K],
        measurements.value_K[order_K],
        measurements.num_sequences,
        measurements.num_variables,
    )


def of_wide_rows(
    sequence_R: NDArray[np.integer[Any]],
    time_R: NDArray[np.number[Any]],
    value_RV: Floats,
    num_sequences: int,
) -> Measurements:
    """Rows in order of sequence and time, NaN where a variable was not measured."""
    import numpy as np

    row_K, variable_K = np.nonzero(~np.isnan(value_RV))
    return Measurements(
        sequence_R[row_K], time_R[row_K], variable_K, value_RV[row_K, variable_K], num_sequences, value_RV.shape[1]
    )

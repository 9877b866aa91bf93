"""Regular steps of sequences: where each begins, how many there are, and in which one a moment lies.

Axes: N sequences, M steps of all of them one after another, K moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Ints

ROUNDING = 1e-9
"""Of a step: 0.3 / 0.1 is a little less than 3, but the moment 0.3 begins the fourth step."""


@dataclass(frozen=True)
class Steps:
    """N sequences' steps of one length."""

    start_N: NDArray[np.float64]
    """When the first step begins, cut-off ones included."""
    size: float
    """Length of a step, in the unit of time."""
    cut_N: Ints
    """How many first steps are cut off."""
    length_N: Ints
    """How many are left, at least 1."""

    def offsets(self) -> Ints:
        """int64 [N + 1]: sequence n's steps are offset[n] … offset[n + 1] - 1."""
        import numpy as np

        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.length_N)])

    @property
    def total(self) -> int:
        """M."""
        return int(self.length_N.sum())

    def of(self, first: int, stop: int) -> Steps:
        """Those of the sequences first … stop - 1."""
        block = slice(first, stop)
        return Steps(self.start_N[block], self.size, self.cut_N[block], self.length_N[block])

    def at(self, sequence_K: NDArray[np.integer[Any]], time_K: NDArray[np.number[Any]]) -> Ints:
        """int64 [K]: the step, over all sequences, in which a moment lies.

        −1 before a sequence's first step that is left. What comes after its last step belongs to that one: so the
        end of the last step is a part of it.
        """
        import numpy as np

        bin_K = _bins(time_K, self.start_N[sequence_K], self.size) - self.cut_N[sequence_K]
        step_K = self.offsets()[sequence_K] + np.minimum(bin_K, self.length_N[sequence_K] - 1)
        return np.where(bin_K < 0, -1, step_K)


def until_last(
    start_N: NDArray[np.float64], last_N: NDArray[np.float64], size: float, max_steps: int | None = None
) -> Steps:
    """Steps up to the one in which each sequence's last moment lies; of longer ones the last `max_steps`."""
    import numpy as np

    length_N = np.maximum(_bins(last_N, start_N, size) + 1, 1)
    kept_N = length_N if max_steps is None else np.minimum(length_N, max_steps)
    return Steps(start_N, size, length_N - kept_N, kept_N)


def fixed(num_sequences: int, num_steps: int, size: float) -> Steps:
    """The same number of steps for every sequence, from time 0."""
    import numpy as np

    cut_N = np.zeros(num_sequences, np.int64)
    return Steps(np.zeros(num_sequences), size, cut_N, np.full(num_sequences, num_steps, np.int64))


def _bins(time_K: NDArray[Any], start_K: NDArray[np.float64], size: float) -> Ints:
    import numpy as np

    bins: Ints = np.floor((time_K - start_K) / size + ROUNDING).astype(np.int64)
    return bins

"""What a whole sequence amounts to: each variable's mean, min, max, first, last and count.

Axes: N sequences, V variables, K measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtlsearch.config.encoding import Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats
    from mtlsearch.data.sequences.measurements import Measurements

SUMMARIES = {
    "mean": "mean over all",
    "min": "min over all",
    "max": "max over all",
    "first": "first of all",
    "last": "last of all",
    "count": "count over all",
}
"""Their names, which differ from those of a step's channels: encodings go by name."""


def summary_columns(measurements: Measurements, names: Sequence[str]) -> dict[str, Floats]:
    """`NAME SUMMARY` → float32 [N]; NaN where a sequence never has the variable, of which the count is 0."""
    import numpy as np

    arrays = _summaries(measurements)
    return {
        f"{name} {SUMMARIES[kind]}": array_VN[variable].astype(np.float32)
        for variable, name in enumerate(names)
        for kind, array_VN in arrays.items()
    }


def summary_encodings(name: str, encoding: Encoding | None = None) -> Mapping[str, Encoding]:
    """How a variable's summaries are encoded. All but the count are missing together: one indicator says it."""
    value = encoding or Encoding()
    bare = value.model_copy(update={"indicator": False})
    wanted = {"mean": value, "min": bare, "max": bare, "first": bare, "last": bare}
    return {f"{name} {SUMMARIES[kind]}": choice for kind, choice in wanted.items()}


def _summaries(measurements: Measurements) -> dict[str, NDArray[Any]]:
    """Summary → [V, N]."""
    import numpy as np

    shape = (measurements.num_variables, measurements.num_sequences)
    cell_K = measurements.variable_K.astype(np.int64) * measurements.num_sequences + measurements.sequence_K
    value_K = measurements.value_K
    size = shape[0] * shape[1]
    count = np.bincount(cell_K, minlength=size)
    total = np.bincount(cell_K, value_K, size)
    nothing = np.full(size, np.nan)
    arrays = {
        "mean": np.where(count > 0, total / np.maximum(count, 1), np.nan),
        "min": nothing.copy(),
        "max": nothing.copy(),
        "first": nothing.copy(),
        "last": nothing.copy(),
        "count": count,
    }
    np.fmin.at(arrays["min"], cell_K, value_K)
    np.fmax.at(arrays["max"], cell_K, value_K)
    # Of an index that occurs several times numpy keeps the last value.
    arrays["first"][cell_K[::-1]] = value_K[::-1]
    arrays["last"][cell_K] = value_K
    return {kind: array.reshape(shape) for kind, array in arrays.items()}

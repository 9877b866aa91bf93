"""Raw columns → numbers, as learnt on the training split (see `fitting`) and kept in the schema for predict.

Axes: N rows, F numeric columns (one that misses values may be followed by an indicator), C categorical columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mtlsearch.config.base import Config
from mtlsearch.config.encoding import FIRST, MISSING, UNSEEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, Indices, Strings

Shape = Literal["standardize", "log", "quantile", "none"]

EDGE = 1e-3
"""Ranks are kept this far from 0 and 1, so that a new extreme is 3.1 deviations out, not infinitely many."""


class NumericEncoder(Config):
    """(value − mean) / std, of the value, its signed log or its rank, cut off at ±clip; missing becomes 0."""

    name: str
    kind: Shape
    """As `Encoding.kind`, `auto` decided."""
    mean: float = 0.0
    std: float = 1.0
    clip: float | None = None
    quantiles: tuple[float, ...] = ()
    """Of `quantile`: the training values at evenly spaced ranks, from the least to the greatest."""
    indicator: bool = False
    """Whether a column that is 1 where the value is missing follows."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)

    def encode(self, column_N: Floats) -> Floats:
        """float32 [N] with NaN → float32 [N, 1 or 2]."""
        import numpy as np

        missing = np.isnan(column_N)
        scaled = (self._shaped(column_N) - self.mean) / self.std
        if self.clip is not None:
            scaled = np.clip(scaled, -self.clip, self.clip)
        scaled[missing] = 0.0
        parts = (scaled, missing) if self.indicator else (scaled,)
        return np.stack(parts, axis=1).astype(np.float32)

    def _shaped(self, column_N: Floats) -> NDArray[np.float64]:
        import numpy as np

        values = column_N.astype(np.float64)
        match self.kind:
            case "log":
                return signed_log(values)
            case "quantile":
                return normal_deviate(values, np.asarray(self.quantiles))
            case _:
                return values


class CategoricalEncoder(Config):
    """Category → index; 0 for one that the training rows do not have, 1 for missing."""

    name: str
    vocabulary: tuple[str, ...]
    """The training rows' categories, sorted; the first has index 2."""

    @property
    def cardinality(self) -> int:
        """Number of indices: rows of an embedding table."""
        return len(self.vocabulary) + FIRST

    def encode(self, column: Strings) -> Indices:
        """Strings [N] → int32 [N]."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(column, pa.array(self.vocabulary, pa.string())).fill_null(UNSEEN - FIRST)
        indices: Indices = np.asarray(found, dtype=np.int32) + FIRST
        return np.where(np.asarray(column.is_null()), np.int32(MISSING), indices)


class BinEncoder(Config):
    """Number → index of its bin; 1 for missing. Index 0 stays unused, as no number is unseen."""

    column: str
    """Whose numbers these are."""
    cuts: tuple[float, ...]
    """Ascending. A number equal to a cut lies below it."""

    @property
    def name(self) -> str:
        """Of the categorical column."""
        return f"{self.column} bins"

    @property
    def cardinality(self) -> int:
        """Number of indices: rows of an embedding table."""
        return len(self.cuts) + 1 + FIRST

    def encode(self, column_N: Floats) -> Indices:
        """float32 [N] with NaN → int32 [N]."""
        import numpy as np

        indices: Indices = (np.searchsorted(np.asarray(self.cuts), column_N) + FIRST).astype(np.int32)
        return np.where(np.isnan(column_N), np.int32(MISSING), indices)


def encode_numeric(encoders: Sequence[NumericEncoder], columns: Mapping[str, Floats], num_rows: int) -> Floats:
    """Named raw columns → numeric_NF."""
    import numpy as np

    encoded_NF = np.empty((num_rows, sum(len(encoder.outputs) for encoder in encoders)), np.float32)
    start = 0
    for encoder in encoders:
        stop = start + len(encoder.outputs)
        encoded_NF[:, start:stop] = encoder.encode(columns[encoder.name])
        start = stop
    return encoded_NF


def encode_categorical(
    encoders: Sequence[CategoricalEncoder | BinEncoder],
    columns: Mapping[str, Strings],
    numeric: Mapping[str, Floats],
    num_rows: int,
) -> Indices:
    """Named raw columns, texts and numbers, → categorical_NC."""
    import numpy as np

    encoded_NC = np.empty((num_rows, len(encoders)), np.int32)
    for index, encoder in enumerate(encoders):
        if isinstance(encoder, BinEncoder):
            encoded_NC[:, index] = encoder.encode(numeric[encoder.column])
        else:
            encoded_NC[:, index] = encoder.encode(columns[encoder.name])
    return encoded_NC


def signed_log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """sign(x)·log(1 + |x|)."""
    import numpy as np

    logged: NDArray[np.float64] = np.sign(values) * np.log1p(np.abs(values))
    return logged


def normal_deviate(values: NDArray[np.float64], quantiles_Q: NDArray[np.float64]) -> NDArray[Any]:
    """Φ⁻¹ of the values' ranks; a value that many rows share has the middle of its ranks."""
    import numpy as np
    from scipy.special import ndtri

    rank_Q = np.linspace(0, 1, len(quantiles_Q))
    below = np.interp(values, quantiles_Q, rank_Q)
    above = 1 - np.interp(-values, -quantiles_Q[::-1], rank_Q)
    deviates: NDArray[np.float64] = ndtri(np.clip((below + above) / 2, EDGE, 1 - EDGE))
    return deviates

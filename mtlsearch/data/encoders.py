"""Raw columns → numbers, learnt on the training split alone and kept in the schema for predict.

Axes: N rows, F numeric columns (one that misses values is followed by an indicator), C categorical columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtlsearch.config.base import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, Indices, Strings

CLIP = 8.0
"""Standard deviations; beyond them a value is an outlier whose size should not steer a network."""

HEAVY_TAIL = 4.0
"""|Skewness| above which a column is taken as sign(x)·log(1 + |x|): money, rain. (An exponential has 2.)"""

ROUNDING = 1e-6
"""A standard deviation below this share of the mean is float32's rounding of a constant."""

UNSEEN, MISSING, FIRST = 0, 1, 2
"""Indices of a category that train does not have, of a missing one, and of the first known one."""


class NumericEncoder(Config):
    """(value − mean) / std of the training rows, clipped to ±8; missing becomes 0."""

    name: str
    mean: float
    std: float
    signed_log: bool = False
    """Whether sign(x)·log(1 + |x|) comes first."""
    has_missing: bool = False
    """Whether an indicator column, 1 where the value is missing, follows."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return (self.name, f"{self.name} is missing") if self.has_missing else (self.name,)

    def encode(self, column_N: Floats) -> Floats:
        """float32 [N] with NaN → float32 [N, 1 or 2]."""
        import numpy as np

        values = _signed_log(column_N) if self.signed_log else column_N.astype(np.float64)
        missing = np.isnan(values)
        scaled = np.where(missing, 0.0, np.clip((values - self.mean) / self.std, -CLIP, CLIP))
        parts = (scaled, missing) if self.has_missing else (scaled,)
        return np.stack(parts, axis=1).astype(np.float32)


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


def fit_numeric(name: str, train_N: Floats) -> NumericEncoder:
    """Mean and std of the values that are there; an empty or constant column becomes zeros."""
    import numpy as np

    present = train_N[~np.isnan(train_N)].astype(np.float64)
    signed_log = _skewness(present) > HEAVY_TAIL
    values = _signed_log(present) if signed_log else present
    mean, std = (float(values.mean()), float(values.std())) if len(values) else (0.0, 1.0)
    return NumericEncoder(
        name=name,
        mean=mean,
        std=std if std > ROUNDING * abs(mean) else 1.0,
        signed_log=signed_log,
        has_missing=len(present) < len(train_N),
    )


def fit_categorical(name: str, train: Strings) -> CategoricalEncoder:
    """The categories that are there, sorted, so that the order of the rows does not matter."""
    import pyarrow.compute as pc

    vocabulary = sorted(pc.unique(train.drop_null()).to_pylist())
    return CategoricalEncoder(name=name, vocabulary=tuple(vocabulary))


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
    encoders: Sequence[CategoricalEncoder], columns: Mapping[str, Strings], num_rows: int
) -> Indices:
    """Named raw columns → categorical_NC."""
    import numpy as np

    encoded_NC = np.empty((num_rows, len(encoders)), np.int32)
    for index, encoder in enumerate(encoders):
        encoded_NC[:, index] = encoder.encode(columns[encoder.name])
    return encoded_NC


def _signed_log(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    import numpy as np

    logged: NDArray[np.float64] = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
    return logged


def _skewness(values: NDArray[np.float64]) -> float:
    std = values.std() if len(values) else 0.0
    return abs(float((((values - values.mean()) / std) ** 3).mean())) if std > 0 else 0.0

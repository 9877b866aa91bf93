"""Encoders learnt from the training rows as they pass by, part after part.

Axes: N training rows of a part.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from mtlsearch.config.encoding import Encoding
from mtlsearch.data.encoders import BinEncoder, CategoricalEncoder, NumericEncoder, Shape, normal_deviate, signed_log

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, Strings

HEAVY_TAIL = 4.0
"""|Skewness| above which `auto` takes the signed log: money, rain. (An exponential has 2.)"""

ROUNDING = 1e-6
"""A standard deviation below this share of the mean is float32's rounding of a constant."""

QUANTILES = 257
SAMPLE = 200_000
"""Values of a column that its quantiles are taken from: all of them up to twice as many."""


class Moments:
    """Mean, variance and skewness of a stream (Pébay 2008, SAND2008-6212, eq. 2.1 to 2.4)."""

    def __init__(self) -> None:
        self.count, self.mean, self._m2, self._m3 = 0, 0.0, 0.0, 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Counts these values in."""
        n = len(values)
        if n == 0:
            return
        mean = float(values.mean())
        centred = values - mean
        squares = centred * centred
        m2, m3 = float(squares.sum()), float((squares * centred).sum())
        total, delta = self.count + n, mean - self.mean
        self._m3 += m3 + delta**3 * self.count * n * (self.count - n) / total**2
        self._m3 += 3 * delta * (self.count * m2 - n * self._m2) / total
        self._m2 += m2 + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation (of the population); 0 of nothing."""
        return float((self._m2 / self.count) ** 0.5) if self.count else 0.0

    @property
    def skewness(self) -> float:
        """0 of a constant."""
        return self._m3 / self.count / self.std**3 if self.std > 0 else 0.0


class NumericFit:
    """One numeric column."""

    def __init__(self, name: str, encoding: Encoding) -> None:
        self.name, self.encoding = name, encoding
        self.raw, self.log = Moments(), Moments()
        self._sample = Sample(name) if encoding.kind == "quantile" else None
        self._missing = 0

    def add(self, train_N: Floats) -> None:
        """Counts these rows in; NaN is missing."""
        import numpy as np

        present = train_N[~np.isnan(train_N)].astype(np.float64)
        self._missing += len(train_N) - len(present)
        if self.encoding.kind in ("auto", "standardize"):
            self.raw.add(present)
        if self.encoding.kind in ("auto", "log"):
            self.log.add(signed_log(present))
        if self._sample is not None:
            self._sample.add(present)

    def encoder(self) -> NumericEncoder:
        """A column that is empty or constant in the training rows becomes zeros."""
        indicator = self.encoding.indicator and self._missing > 0
        if self.encoding.kind == "none":
            return NumericEncoder(name=self.name, kind="none", indicator=indicator)
        kind, moments, quantiles = self._shape()
        return NumericEncoder(
            name=self.name,
            kind=kind,
            mean=moments.mean,
            std=moments.std if moments.std > ROUNDING * abs(moments.mean) else 1.0,
            clip=self.encoding.clip,
            quantiles=quantiles,
            indicator=indicator,
        )

    def _shape(self) -> tuple[Shape, Moments, tuple[float, ...]]:
        """What comes before standardising, the moments after it, and the quantiles that it needs."""
        if self._sample is not None:
            quantiles = self._sample.quantiles()
            moments = Moments()
            moments.add(normal_deviate(self._sample.values(), quantiles))
            return "quantile", moments, tuple(quantiles.tolist())
        heavy = self.encoding.kind == "auto" and abs(self.raw.skewness) > HEAVY_TAIL
        if heavy or self.encoding.kind == "log":
            return "log", self.log, ()
        return "standardize", self.raw, ()


class BinFit:
    """The bins of one numeric column."""

    def __init__(self, name: str, num_bins: int) -> None:
        self.name, self.num_bins = name, num_bins
        self._sample = Sample(name)

    def add(self, train_N: Floats) -> None:
        """Counts these rows in; NaN is missing."""
        import numpy as np

        self._sample.add(train_N[~np.isnan(train_N)].astype(np.float64))

    def encoder(self) -> BinEncoder:
        """A bin for each value that more than 1/num_bins of the rows share; the others are cut at their quantiles."""
        import numpy as np

        values = self._sample.values()
        distinct, counts = np.unique(values, return_counts=True)
        between = (distinct[1:] + distinct[:-1]) / 2
        if len(distinct) <= self.num_bins:
            return BinEncoder(column=self.name, cuts=tuple(between.tolist()))
        heavy = counts > len(values) / self.num_bins
        rest = values[~np.isin(values, distinct[heavy])]
        num_ranges = max(2, self.num_bins - int(heavy.sum()))
        ranges = np.quantile(rest, np.linspace(0, 1, num_ranges + 1)[1:-1]) if len(rest) else np.empty(0)
        around = between[heavy[1:] | heavy[:-1]]
        return BinEncoder(column=self.name, cuts=tuple(np.unique(np.concatenate([ranges, around])).tolist()))


class CategoricalFit:
    """One categorical column."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: set[str] = set()

    def add(self, train: Strings) -> None:
        """Counts these rows in."""
        import pyarrow.compute as pc

        self._found.update(pc.unique(train.drop_null()).to_pylist())

    def encoder(self) -> CategoricalEncoder:
        """The categories that are there, sorted, so that the order of the rows does not matter."""
        return CategoricalEncoder(name=self.name, vocabulary=tuple(sorted(self._found)))


class Sample:
    """An even sample of a stream, at most 2 · SAMPLE values: when it is full, every other one goes."""

    def __init__(self, name: str) -> None:
        import numpy as np

        self._draw = np.random.RandomState(zlib.crc32(name.encode()))  # the same sample every time
        self._chunks: list[NDArray[np.float64]] = []
        self._share = 1.0

    def add(self, values: NDArray[np.float64]) -> None:
        self._chunks.append(self._thin(values, self._share))
        while sum(map(len, self._chunks)) > 2 * SAMPLE:
            self._share /= 2
            self._chunks = [self._thin(chunk, 0.5) for chunk in self._chunks]

    def values(self) -> NDArray[np.float64]:
        import numpy as np

        return np.concatenate(self._chunks) if self._chunks else np.empty(0)

    def quantiles(self) -> NDArray[np.float64]:
        import numpy as np

        values = self.values()
        return np.quantile(values, np.linspace(0, 1, QUANTILES)) if len(values) else np.zeros(QUANTILES)

    def _thin(self, values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
        return values if share == 1 else values[self._draw.random_sample(len(values)) < share]

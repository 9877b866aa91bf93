"""Two choosers that need no Optuna: one repeats given values, one draws at random."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlsearch.space.domain import FloatDomain, Scalar


@dataclass(frozen=True)
class Replay:
    """Repeats values that were chosen before, by name."""

    values: Mapping[str, Scalar]

    def category(self, name: str, options: tuple[Scalar, ...]) -> Scalar:
        """The given option."""
        return self.values[name]

    def integer(self, name: str, low: int, high: int, *, log: bool, step: int) -> int:
        """The given whole number."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def real(self, name: str, low: float, high: float, *, log: bool, step: float | None) -> float:
        """The given number."""
        value = self.values[name]
        assert isinstance(value, int | float)
        return float(value)


@dataclass(frozen=True)
class Random:
    """Draws uniformly, or uniformly in the logarithm, what is not fixed."""

    generator: random.Random
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def category(self, name: str, options: tuple[Scalar, ...]) -> Scalar:
        """Any option."""
        return self.fixed[name] if name in self.fixed else self.generator.choice(options)

    def integer(self, name: str, low: int, high: int, *, log: bool, step: int) -> int:
        """Any whole number of the range."""
        if name in self.fixed:
            return int(self.fixed[name])
        if not log:
            return self.generator.randrange(low, high + 1, step)
        return min(high, max(low, round(math.exp(self.generator.uniform(math.log(low - 0.5), math.log(high + 0.5))))))

    def real(self, name: str, low: float, high: float, *, log: bool, step: float | None) -> float:
        """Any number of the range."""
        if name in self.fixed:
            return float(self.fixed[name])
        if step is not None:
            count = FloatDomain(low, high, step=step).size or 1
            return min(high, low + self.generator.randrange(count) * step)
        if log:
            return min(high, max(low, math.exp(self.generator.uniform(math.log(low), math.log(high)))))
        return self.generator.uniform(low, high)

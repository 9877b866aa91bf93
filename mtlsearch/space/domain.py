"""The sets that a parameter is drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class IntDomain:
    """Whole numbers from `low` to `high`, both included, every `step`-th of them."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    @property
    def size(self) -> int:
        """How many members there are."""
        return (self.high - self.low) // self.step + 1

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step))

    def __contains__(self, value: object) -> bool:
        members = range(self.low, self.high + 1, self.step)
        return isinstance(value, int) and not isinstance(value, bool) and value in members

    def __str__(self) -> str:
        return f"{{int: [{self.low}, {self.high}]{_options(self.log, self.step if self.step > 1 else None)}}}"


@dataclass(frozen=True)
class FloatDomain:
    """Real numbers from `low` to `high`, both included; with a `step`, only every `step`-th of them."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def size(self) -> int | None:
        """How many members there are; None without a step, where they cannot be counted."""
        if self.low == self.high:
            return 1
        if self.step is None:
            return None
        return int((Decimal(str(self.high)) - Decimal(str(self.low))) // Decimal(str(self.step))) + 1

    def __iter__(self) -> Iterator[float]:
        assert self.size is not None, "a range without a step cannot be counted off"
        low, step = Decimal(str(self.low)), Decimal(str(self.step or 0))  # in floats, 3 · 0.1 is not 0.3
        return (float(low + i * step) for i in range(self.size))

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-8

    def __str__(self) -> str:
        return f"{{float: [{self.low}, {self.high}]{_options(self.log, self.step)}}}"


@dataclass(frozen=True)
class CategoryDomain:
    """One of the options; for a choice between components these are the branches' labels."""

    options: tuple[Scalar, ...]

    @property
    def size(self) -> int:
        """How many members there are."""
        return len(self.options)

    def __iter__(self) -> Iterator[Scalar]:
        return iter(self.options)

    def __contains__(self, value: object) -> bool:
        return any(o == value and isinstance(o, bool) == isinstance(value, bool) for o in self.options)

    def __str__(self) -> str:
        return f"{{choice: [{', '.join('null' if o is None else str(o) for o in self.options)}]}}"


Domain = IntDomain | FloatDomain | CategoryDomain


def _options(log: bool, step: float | None) -> str:
    return (", log: true" if log else "") + (f", step: {step}" if step is not None else "")

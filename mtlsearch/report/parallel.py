"""Axes of the parallel coordinates: where on an axis a parameter's value is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mtlsearch.report.experiment import TrialFacts

MOST_AXES = 9
"""With the objective; more cannot be told apart."""

ABSENT = -0.12
"""Place of trials whose model does not have the parameter: below the axis."""

_LOG_FROM = 30.0
"""Largest value, in times of the smallest, from which an axis is logarithmic."""

_MOST_OPTIONS = 8


@dataclass(frozen=True)
class Axis:
    """One parameter, or the objective."""

    index: int
    name: str
    values: tuple[Any, ...]
    """That trials have, without None, in order."""

    @property
    def is_numeric(self) -> bool:
        """Whether places are proportional to values."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    @cached_property
    def _is_log(self) -> bool:
        return bool(self.values[0] > 0 and self.values[-1] / self.values[0] >= _LOG_FROM)

    def place(self, trial: TrialFacts) -> float | None:
        """In [0, 1]; below where the trial lacks the parameter, None where it has no objective."""
        value = value_of(trial, self.name)
        if value is None or value != value:
            return None if self.name == OBJECTIVE else ABSENT
        return round(self._place(value), 3)

    def ticks(self) -> list[dict[str, Any]]:
        """What is written along the axis."""
        if not self.is_numeric:
            chosen = list(self.values[:: math.ceil(len(self.values) / _MOST_OPTIONS)])
        elif len(self.values) <= 5:
            chosen = list(self.values)
        else:
            low, high = self.values[0], self.values[-1]
            middle = math.sqrt(low * high) if self._is_log else (low + high) / 2
            chosen = [low, middle, high]
        return [{"axis": f"p{self.index}", "y": round(self._place(value), 3), "text": _text(value)} for value in chosen]

    def _place(self, value: Any) -> float:
        if len(self.values) < 2:
            return 0.5
        if not self.is_numeric:
            return [*map(str, self.values)].index(str(value)) / (len(self.values) - 1)
        low, high = self.values[0], self.values[-1]
        if self._is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return float((value - low) / (high - low))


OBJECTIVE = "objective"


def value_of(trial: TrialFacts, name: str) -> Any:
    """A parameter's value, or the objective."""
    if name == OBJECTIVE:
        value = trial.record.value
        return value if value is not None and math.isfinite(value) else None
    return trial.parameters.get(name)


def varied(trials: Sequence[TrialFacts]) -> list[str]:
    """Parameters that have several values, in the order of the configuration."""
    values: dict[str, set[Any]] = {}
    for trial in trials:
        for name, value in trial.parameters.items():
            if value is not None:
                values.setdefault(name, set()).add(value)
    return [name for name, found in values.items() if len(found) > 1]


def axes_of(trials: Sequence[TrialFacts], important: Sequence[str]) -> tuple[Axis, ...]:
    """The parameters that vary, the important ones if they are too many, then the objective.

    Args:
        important: names as the sampler knows them (`model.mmoe.hidden` for `model.hidden`), most important first.
    """
    names = varied(trials)
    if not names:
        return ()
    ends = [name.rpartition(".")[2] for name in important]
    by_weight = sorted(names, key=lambda name: (name != "model.kind", _position(ends, name.rpartition(".")[2])))
    kept = [name for name in names if name in by_weight[: MOST_AXES - 1]]
    return tuple(
        Axis(index, name, _in_order({value_of(trial, name) for trial in trials} - {None}))
        for index, name in enumerate([*kept, OBJECTIVE])
    )


def _position(ends: Sequence[str], end: str) -> int:
    return ends.index(end) if end in ends else len(ends)


def _in_order(values: set[Any]) -> tuple[Any, ...]:
    numeric = all(isinstance(value, int | float) for value in values)
    return tuple(sorted(values)) if numeric else tuple(sorted(map(str, values)))


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""What every source hands over: named columns, labels, and which rows belong to which split.

Axes: N rows of a part, M steps of all its sequences one after another, L labels of a multilabel task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    LabelValues: TypeAlias = NDArray[np.float32] | NDArray[np.float64]
    Ints: TypeAlias = NDArray[np.int64]
    Indices: TypeAlias = NDArray[np.int32]

Strings: TypeAlias = Any
"""A pyarrow string array; a null is a missing value."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class StepPart:
    """The steps of a part's sequences: those of the first one, then those of the second, …"""

    length_N: Ints
    """Steps of each sequence, at least 1."""
    numeric: Mapping[str, Floats]
    """float32 [M]; NaN is missing."""
    categorical: Mapping[str, Strings]
    """Strings [M]; null is missing."""
    labels: Mapping[str, LabelValues]
    """Task that has a label a step → [M], or [M, L]; see `Part.labels`."""


@dataclass(frozen=True)
class Part:
    """Some consecutive rows of a source, not yet encoded. A row is a line of a table, or a sequence."""

    numeric: Mapping[str, Floats]
    """float32 [N]; NaN is missing."""
    categorical: Mapping[str, Strings]
    """Strings [N]; null is missing."""
    labels: Mapping[str, LabelValues]
    """Task that has a label a row → float32 [N], or [N, L]: 0 or 1, the class's index, or the value in original
    units, which is float64 where it may be far from 0 (a year, a Unix time); NaN is missing."""
    weights: Mapping[str, Floats] = field(default_factory=dict)
    """Task → float32 [N], at least 0: how much each row's loss counts. A task without an entry weighs all alike."""
    steps: StepPart | None = None


@dataclass(frozen=True)
class Columns:
    """A source, read."""

    tasks: tuple[Task, ...]
    """Those that were asked for, in that order, with their classes."""
    rows: Mapping[SplitName, Ints]
    """Split → its row numbers over all parts, ascending."""
    parts: Callable[[], Iterable[Part]]
    """Every call gives all rows from the start, in parts that fit into memory. All have the same columns."""
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    """Numeric columns, of rows or steps, whose encoding is not the default one."""
    notes: tuple[str, ...] = ()
    """What a user should know of this data, a sentence each."""

    @classmethod
    def whole(cls, tasks: Iterable[Task], rows: Mapping[SplitName, Ints], part: Part, **others: Any) -> Columns:
        """A source that is one part."""
        return cls(tuple(tasks), rows, lambda: (part,), **others)

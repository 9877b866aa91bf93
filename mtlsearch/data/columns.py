"""What every source hands over: named columns, labels, and which rows belong to which split.

Axes: N rows of the source, F numeric columns, C categorical columns, K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]
    Indices: TypeAlias = NDArray[np.int32]

Strings: TypeAlias = Any
"""A pyarrow string array; a null is a missing value."""

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True)
class Columns:
    """A source's rows, not yet encoded. All columns are N long."""

    numeric: Mapping[str, Floats]
    """float32 [N]; NaN is missing."""
    categorical: Mapping[str, Strings]
    """Strings [N]; null is missing."""
    labels: Mapping[str, Floats]
    """Task → float32 [N] in original units; NaN is missing."""
    rows: Mapping[SplitName, Ints]
    """Split → its row numbers, ascending."""

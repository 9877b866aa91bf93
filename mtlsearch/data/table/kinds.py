"""What a column of a file holds, and its cells as numbers or texts.

Axes: N cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["number", "flag", "date", "text", "list", "other"]
"""`flag` is true or false, `date` anything of the calendar or the clock, `text` any text or dictionary."""

SECONDS_A_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class ColumnType:
    """A column's kind and its pyarrow type."""

    kind: Kind
    arrow: Any
    """A pyarrow DataType."""

    @property
    def is_integer(self) -> bool:
        """Whether the file itself says that these are integers (a CSV file does not)."""
        import pyarrow as pa

        return bool(pa.types.is_integer(self.arrow))

    def __str__(self) -> str:
        return f"{self.kind} ({self.arrow})"


def column_type(arrow: Any) -> ColumnType:
    """The kind of a pyarrow type. A column that is null everywhere counts as numbers."""
    import pyarrow.types as is_

    if is_.is_integer(arrow) or is_.is_floating(arrow) or is_.is_decimal(arrow) or is_.is_null(arrow):
        return ColumnType("number", arrow)
    if is_.is_boolean(arrow):
        return ColumnType("flag", arrow)
    if is_.is_temporal(arrow) and not is_.is_interval(arrow):
        return ColumnType("date", arrow)
    if is_text(arrow) or (is_.is_dictionary(arrow) and column_type(arrow.value_type).kind not in ("list", "other")):
        return ColumnType("text", arrow)
    if is_.is_list(arrow) or is_.is_large_list(arrow) or is_.is_fixed_size_list(arrow):
        return ColumnType("list", arrow)
    return ColumnType("other", arrow)


def is_text(arrow: Any) -> bool:
    """Whether a pyarrow type is one of its string types."""
    import pyarrow.types as is_

    return bool(is_.is_string(arrow) or is_.is_large_string(arrow) or is_.is_string_view(arrow))


def as_floats(array: Any) -> NDArray[np.float64]:
    """Numbers, flags as 0 and 1, dates as days since 1970, texts as the numbers they spell; NaN where missing.

    Args:
        array: pyarrow Array or ChunkedArray [N] of any kind but list and other.
    Raises:
        pyarrow.ArrowInvalid: a text is no number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as is_

    if is_.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    if is_text(array.type):
        array = pc.utf8_trim_whitespace(array.cast(pa.string()))
    units = _units_a_day(array.type)
    if units is not None:
        array = array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64()).cast(pa.float64(), safe=False)
    array = array.cast(pa.float64(), safe=False)
    floats: NDArray[np.float64] = array.to_numpy() if _is_chunked(array) else array.to_numpy(zero_copy_only=False)
    return floats if units is None else floats / units


def as_texts(array: Any) -> Any:
    """A pyarrow string Array or ChunkedArray [N]; null where missing, so also for NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as is_

    if is_.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    if is_.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    return array.cast(pa.string())


def _units_a_day(arrow: Any) -> int | None:
    """How many of a calendar type's units make a day; None where it is no such type."""
    import pyarrow.types as is_

    if not is_.is_temporal(arrow):
        return None
    if is_.is_date32(arrow):
        return 1
    return SECONDS_A_DAY * _PER_SECOND["ms" if is_.is_date64(arrow) else arrow.unit]


def _is_chunked(array: Any) -> bool:
    return hasattr(array, "chunks")

"""The type of one column of a CSV file, found while its cells are converted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

NUMBERS_MISSING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""What stands for a missing value among numbers, flags and dates where the user does not say."""

NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"

Place = tuple[int, int]
"""File and data row, both from 0."""


class CsvColumn:
    """Converts a column's cells, batch by batch, and remembers of which type they have been so far.

    Args:
        name: of the column.
        missing: what stands for a missing value beside an empty cell; None for the default.
        override: the type, where it is not to be guessed; `number` is true of flags and dates too.
    """

    def __init__(self, name: str, missing: Sequence[str] | None, override: Literal["number", "text"] | None) -> None:
        import pyarrow as pa

        self.name = name
        self._texts_missing = pa.array(["", *(missing or ())], pa.string())
        self._values_missing = pa.array(["", *(NUMBERS_MISSING if missing is None else missing)], pa.string())
        self._override = override
        self._type: Any = pa.string() if override == "text" else None
        self._looks_numeric = False
        self.start()

    def start(self) -> None:
        """Begins another pass; the type stays."""
        self.odd: tuple[Place, str] | None = None
        """The first text that is no number, and where it stands."""
        self._numbers = self._present = 0

    @property
    def type(self) -> Any:
        """pyarrow type; float64 as long as no value has been seen."""
        import pyarrow as pa

        return pa.float64() if self._type is None else self._type

    @property
    def share_of_numbers(self) -> float:
        """Of a text's values, where it looked like numbers at first."""
        return self._numbers / max(1, self._present)

    def convert(self, texts: Any, place: Place) -> Any:
        """pyarrow strings → array of `type`; None where it must hold numbers by override, but does not.

        Args:
            texts: null where the cell is empty.
            place: of the first one.
        """
        import pyarrow as pa

        if self._type is None:
            self._guess(texts)
        if self._type is not None and self._type != pa.string():
            if (values := self._values(texts, self._type)) is not None:
                return values
            self._looks_numeric, self._type = self._type == pa.float64(), pa.string()
        if self._type is None:
            return pa.nulls(len(texts), self.type)
        if self._override == "number":
            self._find_odd(texts, place)
            return None
        return self._as_texts(texts, place)

    def _guess(self, texts: Any) -> None:
        import pyarrow as pa

        if self._nulled(texts, self._values_missing).null_count == len(texts):
            return
        candidates = (
            pa.float64(),
            pa.bool_(),
            pa.timestamp("us"),
            pa.timestamp("us", "UTC"),
            pa.timestamp("ns"),
        )
        fitting = (each for each in candidates if self._values(texts, each) is not None)
        self._type = next(fitting, pa.string())
        self._looks_numeric = self._type == pa.string() and _count_numbers(texts) * 2 > len(texts) - texts.null_count

    def _values(self, texts: Any, arrow: Any) -> Any:
        """None where some text is no such value."""
        import pyarrow as pa

        try:
            return texts.cast(arrow)
        except pa.ArrowInvalid:  # by what stands for a missing value, perhaps, which takes longer to look for
            try:
                return self._nulled(texts, self._values_missing).cast(arrow)
            except pa.ArrowInvalid:
                return None

    def _as_texts(self, texts: Any, place: Place) -> Any:
        array = self._nulled(texts, self._texts_missing)
        if self._looks_numeric and self._override is None:
            present = self._nulled(texts, self._values_missing)
            self._present += len(present) - present.null_count
            self._numbers += _count_numbers(present)
            if self.odd is None:
                self._find_odd(present, place)
        return array

    def _find_odd(self, texts: Any, place: Place) -> None:
        import pyarrow.compute as pc

        texts = self._nulled(texts, self._values_missing)
        index = pc.index(pc.match_substring_regex(texts, NUMBER), False).as_py()
        if index >= 0:
            self.odd = ((place[0], place[1] + index), texts[index].as_py())

    @staticmethod
    def _nulled(texts: Any, missing: Any) -> Any:
        """Trimmed; null where it is one of those that stand for a missing value."""
        import pyarrow as pa
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim_whitespace(texts)
        return pc.if_else(pc.is_in(trimmed, value_set=missing), pa.scalar(None, pa.string()), trimmed)


def _count_numbers(texts: Any) -> int:
    import pyarrow.compute as pc

    return pc.sum(pc.match_substring_regex(texts, NUMBER)).as_py() or 0

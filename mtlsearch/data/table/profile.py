"""What a look through a column finds: is it an input at all?

Axes: N rows of a batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtlsearch.data.table.distinct import Distinct
from mtlsearch.data.table.faults import check_finite, numbers
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.reader import TableReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANY = 1_000
"""A text column with more different values than this, in more than half of its rows, is free text."""

_INDEX = re.compile(r"(?i:|index|unnamed: \d+|id|row|row_?id|.*[ _]id|__index_level_\d+__)|.*[a-z]I[Dd]")
"""Names of columns that only count rows, when all their values are different integers."""


class NumberProfile:
    """Of a column of numbers, flags or dates."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._low, self._high = float("inf"), float("-inf")
        self._missing = False
        self._whole = True

    def add(self, reader: TableReader, array: Any, row: int) -> None:
        """Some more rows, the first of which is `row`. Raises ConfigError for an infinite value."""
        import numpy as np

        floats_N = numbers(reader, self._name, array, row)
        check_finite(reader, self._name, floats_N, row)
        low, high = float(np.fmin.reduce(floats_N)), float(np.fmax.reduce(floats_N))
        self._missing = self._missing or bool(np.isnan(floats_N).any())
        if low <= high:
            self._low, self._high = min(self._low, low), max(self._high, high)
        if self._whole and _INDEX.fullmatch(self._name):
            self._whole = not self._missing and bool((floats_N == np.floor(floats_N)).all())

    def reason(self, reader: TableReader, listed: bool) -> str | None:
        """Why it is no input; None when it is one. `listed` says that the user asked for it."""
        if self._low > self._high:
            return "no value"
        if self._low == self._high and not self._missing:  # else where it is missing may tell something
            return f"always {self._low:g}"
        if not listed and self._is_index(reader):
            return "identifier"
        return None

    def _is_index(self, reader: TableReader) -> bool:
        import numpy as np

        if self._missing or not self._whole or not _INDEX.fullmatch(self._name):
            return False
        values = _exact(reader, self._name)
        values.sort()
        return bool(np.all(values[1:] != values[:-1]))


class TextProfile:
    """Of a column of texts."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._distinct = Distinct()

    def add(self, reader: TableReader, array: Any, row: int) -> None:
        """Some more rows."""
        self._distinct.add(as_texts(array))

    def reason(self, reader: TableReader, listed: bool) -> str | None:
        """Why it is no input; None when it is one. `listed` says that the user asked for it."""
        count, rows, present = len(self._distinct), self._distinct.rows, self._distinct.present
        if count == 0:
            return "no value"
        if count == 1 and present == rows:
            return f"always {self._distinct.first[:20]!r}"
        if listed or count * 2 <= rows:
            return None
        if count == present:
            return "identifier"
        return f"free text, {count:,} different values" if count > MANY else None


def profiles(reader: TableReader, kinds: Mapping[str, str]) -> dict[str, NumberProfile | TextProfile]:
    """Looks once through all rows of the columns. `kinds`: name → "number" or "category"."""
    found = {name: NumberProfile(name) if kind == "number" else TextProfile(name) for name, kind in kinds.items()}
    row = 0
    for batch in reader.batches(list(kinds)) if kinds else ():
        for profile, array in zip(found.values(), batch.columns, strict=True):
            profile.add(reader, array, row)
        row += batch.num_rows
    return found


def _exact(reader: TableReader, name: str) -> NDArray[np.generic]:
    """A column's values; integers as they are, for float64 confuses long ones."""
    column = reader.column(name)
    values: NDArray[np.generic] = column.to_numpy() if reader.columns[name].is_integer else as_floats(column)
    return values.copy()

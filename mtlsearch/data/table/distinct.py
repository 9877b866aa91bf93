"""The different values of a column, counted while it passes by, in bounded memory."""

from __future__ import annotations

from typing import Any

CAP = 500_000
"""Different values after which a column is judged by the rows so far."""


class Distinct:
    """Different texts of a column, at most about CAP of them."""

    def __init__(self) -> None:
        import pyarrow as pa

        self._known = pa.array([], pa.string())
        self._fresh: list[Any] = []
        self._num_fresh = 0
        self.rows = 0
        """Rows looked at."""
        self.present = 0
        """Those of them that have a value."""

    def add(self, texts: Any) -> None:
        """Strings of some more rows."""
        import pyarrow.compute as pc

        if len(self._known) >= CAP:
            return
        self.rows += len(texts)
        self.present += len(texts) - texts.null_count
        self._fresh.append(pc.unique(texts.drop_null()))
        self._num_fresh += len(self._fresh[-1])
        if self._num_fresh > max(len(self._known), 1 << 16):  # so that each value is merged a few times only
            self._merge()

    def __len__(self) -> int:
        self._merge()
        return len(self._known)

    @property
    def first(self) -> str:
        """The first value that came by."""
        self._merge()
        return str(self._known[0])

    def _merge(self) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._known = pc.unique(pa.concat_arrays([self._known, *self._fresh]))
        self._fresh, self._num_fresh = [], 0

"""Labels of which a row may have several: a list column, of the labels' names or of 0 and 1.

Axes: N rows of a batch, L labels, I items of all lists one after another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import TableTask
from mtlsearch.data.table.faults import arrays_of, fault
from mtlsearch.data.table.kinds import as_floats, as_texts, column_type
from mtlsearch.data.table.multiclass import MAX_CLASSES, sorted_classes
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats


@dataclass(frozen=True)
class LabelList:
    """How a list column becomes a column of 0 and 1 a label."""

    column: str
    classes: tuple[str, ...]
    named: bool
    """Whether the lists hold names; else a 0 or 1 a label."""

    def floats(self, array: Any) -> Floats:
        """pyarrow list Array [N] → float32 [N, L]; a row without a list is NaN."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        missing_N = np.asarray(array.is_null())
        labels_NL = np.full((len(array), len(self.classes)), 0 if self.named else np.nan, np.float32)
        row_I, items = np.asarray(pc.list_parent_indices(array)), array.flatten()
        if self.named:
            index = pc.index_in(as_texts(items), value_set=pa.array(self.classes, pa.string()))
            labels_NL[row_I, np.asarray(index)] = 1
        else:
            labels_NL[~missing_N] = as_floats(items).reshape(-1, len(self.classes))
        labels_NL[missing_N] = np.nan
        return labels_NL


def fit_list(reader: TableReader, task: TableTask, column: str) -> LabelList:
    """Looks through the column.

    Raises:
        ConfigError: it holds no lists, lists of neither names nor 0 and 1, lists of several lengths.
    """
    import pyarrow as pa

    found = reader.columns[column]
    if found.kind == "list":
        item = column_type(found.arrow.value_type).kind
        if item == "text":
            return _named(reader, task, column)
        if item in ("number", "flag") and not pa.types.is_null(found.arrow.value_type):
            return _fixed(reader, task, column)
    raise ConfigError(
        f"task {task.title!r}: column {column!r} must hold lists of names, or of 0 and 1, but it is of type "
        f"{found.arrow}. With a column a label, give `columns` (and `name`) instead.",
        Where(reader.file),
    )


def _named(reader: TableReader, task: TableTask, column: str) -> LabelList:
    import numpy as np
    import pyarrow.compute as pc

    found: set[str] = set()
    for row, array in arrays_of(reader, column):
        items = as_texts(array.flatten())
        if items.null_count:
            parent = int(np.asarray(pc.list_parent_indices(array))[np.asarray(items.is_null())][0])
            must = f"task {task.title!r}: lists of {column!r} must hold names"
            raise fault(reader, row + parent, must, "a null in its list", "Remove it.")
        found.update(pc.unique(items).to_pylist())
        if len(found) > MAX_CLASSES:
            break
    if not 0 < len(found) <= MAX_CLASSES:
        raise ConfigError(
            f"task {task.title!r}: column {column!r} must hold 1 to {MAX_CLASSES:,} labels, but it has "
            f"{'more' if found else 'none'}. Name another column.",
            Where(reader.file),
        )
    return LabelList(column, sorted_classes(found), True)


def _fixed(reader: TableReader, task: TableTask, column: str) -> LabelList:
    import numpy as np
    import pyarrow.compute as pc

    length: int | None = None
    must = f"task {task.title!r}: lists of {column!r} must hold a 0 or 1 for each label, as many in every row"
    do = "If these are codes of labels, write them as texts."
    for row, array in arrays_of(reader, column):
        lengths_N = as_floats(pc.list_value_length(array))
        present_N = lengths_N[~np.isnan(lengths_N)]
        if length is None and len(present_N):
            length = int(present_N[0])
        wrong_N = ~np.isnan(lengths_N) & (lengths_N != (length or -1))
        if wrong_N.any():
            index = int(wrong_N.argmax())
            raise fault(reader, row + index, must, f"{lengths_N[index]:g} where others hold {length}", do)
        items_I = as_floats(array.flatten())
        odd_I = ~(np.isnan(items_I) | (items_I == 0) | (items_I == 1))
        if odd_I.any():
            parent = int(np.asarray(pc.list_parent_indices(array))[odd_I][0])
            raise fault(reader, row + parent, must, f"{items_I[odd_I][0]:g}", do)
    return LabelList(column, tuple(str(index) for index in range(length or 0)), False)

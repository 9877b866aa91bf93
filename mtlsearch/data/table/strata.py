"""How labels are spread over rows: strata for a split, and what the training rows lack.

Axes: N rows of the table, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mtlsearch.data.table.labels import Labels
from mtlsearch.data.table.reader import TableReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Ints, LabelValues
    from mtlsearch.data.table.shares import Codes

MISSING = 2


def strata_of(reader: TableReader, labels: Iterable[Labels]) -> Codes:
    """int8 [N]: 0, 1 or 2 (missing) by the binary task whose rarer class is rarest; 0 everywhere without one."""
    import numpy as np

    chosen, fewest = np.zeros(reader.num_rows, np.int8), reader.num_rows + 1
    for each in labels:
        if each.task.kind == "binary":
            codes = np.concatenate([np.nan_to_num(part, nan=MISSING).astype(np.int8) for part in _floats(reader, each)])
            rarest = int(np.bincount(codes, minlength=3)[:MISSING].min())
            if rarest < fewest:
                chosen, fewest = codes, rarest
    return chosen


def class_notes(reader: TableReader, labels: Iterable[Labels], train: Ints) -> Iterator[str]:
    """A sentence for each task that has classes or labels which no training row has."""
    import numpy as np

    is_train_N = np.zeros(reader.num_rows, bool)
    is_train_N[train] = True
    for each in labels:
        if each.task.classes:
            count_C = _counts(reader, each, is_train_N)
            lacking = [name for name, count in zip(each.task.classes, count_C, strict=True) if not count]
            if lacking:
                yield f"Task {each.task.name!r}: no training row has {_some(lacking)}, so it cannot be learnt."


def _counts(reader: TableReader, labels: Labels, is_train_N: NDArray[np.bool_]) -> Ints:
    """How many training rows have each class or label."""
    import numpy as np

    count_C, row = np.zeros(len(labels.task.classes), np.int64), 0
    for part in _floats(reader, labels):
        train = part[is_train_N[row : row + len(part)]]
        row += len(part)
        if part.ndim == 2:
            count_C += (train == 1).sum(axis=0)
        else:
            count_C += np.bincount(train[~np.isnan(train)].astype(np.int64), minlength=len(count_C))
    return count_C


def _floats(reader: TableReader, labels: Labels) -> Iterator[LabelValues]:
    columns = list(dict.fromkeys(labels.columns))
    for batch in reader.batches(columns):
        yield labels.floats(dict(zip(columns, batch.columns, strict=True)))


def _some(names: Sequence[str]) -> str:
    rest = len(names) - 8
    return ", ".join(map(repr, names[:8])) + (f" and {rest} more" if rest > 0 else "")

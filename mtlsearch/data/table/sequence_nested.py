"""Nested format: a row is a sequence, its list columns are the steps, its other columns are what it has once.

Axes: N sequences, R steps of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import SequenceConfig, TableConfig
from mtlsearch.data.table.faults import fault
from mtlsearch.data.table.kinds import column_type
from mtlsearch.data.table.reader import TableReader
from mtlsearch.data.table.sequence_tables import SequenceTables, arranged, load, times_of
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Ints


def nested_tables(config: TableConfig, sequence: SequenceConfig, reader: TableReader) -> SequenceTables:
    """The two tables of a nested one.

    Raises:
        ConfigError: no list column, a row whose lists differ in length or are empty, a list that holds lists.
    """
    import numpy as np
    import pyarrow as pa

    names = [name for name in reader.columns if _is_step(config, name, reader)]
    if not names:
        raise ConfigError(
            "sequences without data.sequence.id must have list columns, one value a step, but the table has none. "
            "Name the column that says of which sequence a row is, as data.sequence.id.",
            Where(reader.file),
        )
    exact = [name for task in config.tasks for name in task.label_columns]
    names.sort(key=lambda name: name in exact)  # inputs first: how many steps a row has is theirs to say
    rows = load(reader, [name for name in reader.columns if name not in names], exact)
    offset_N = np.zeros(1, np.int64)
    columns = {}
    for name in names:
        columns[name], lengths_N = _flat(reader, name)
        if name in exact and name != names[0]:
            columns[name], lengths_N = _with_missing(reader, name, columns[name], lengths_N, offset_N)
        offset_N = _checked(reader, name, names[0], lengths_N, offset_N)
    row_R = np.repeat(np.arange(reader.num_rows), np.diff(offset_N))
    steps, time_R = arranged(pa.table(columns), reader, row_R), None
    if sequence.time is not None:
        time_R = times_of(steps, sequence.time, columns[sequence.time])
        order_R = np.lexsort((time_R, row_R))
        steps = arranged(pa.table({name: column.take(order_R) for name, column in columns.items()}), reader, row_R)
        time_R = time_R[order_R]
    number_N = np.arange(reader.num_rows)
    title_N = pa.array([f"of row {row + 1}" for row in number_N], pa.string())
    return SequenceTables(arranged(pa.table(rows), reader, number_N), steps, offset_N, time_R, title_N)


def _is_step(config: TableConfig, name: str, reader: TableReader) -> bool:
    """Whether a column has a value a step: a list, unless it is the list of a sequence's labels."""
    found = reader.columns[name]
    if found.kind != "list":
        return False
    is_label = any(task.kind == "multilabel" and name in task.label_columns for task in config.tasks)
    return not is_label or column_type(found.arrow.value_type).kind == "list"


def _flat(reader: TableReader, name: str) -> tuple[Any, Ints]:
    """All values one after another, and how many each row has."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    arrays = [batch.column(0) for batch in reader.batches([name])]
    lengths_N = np.concatenate([np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64) for array in arrays])
    value_type = reader.columns[name].arrow.value_type
    values = pa.chunked_array([pc.list_flatten(array) for array in arrays], value_type)
    is_text = column_type(value_type).kind == "text" and not pa.types.is_dictionary(value_type)
    return (values.cast(pa.string()).dictionary_encode() if is_text else values), lengths_N


def _with_missing(reader: TableReader, name: str, values: Any, lengths_N: Ints, offset_N: Ints) -> tuple[Any, Ints]:
    """The same with a null a step in rows that have no list at all: their labels are missing."""
    import numpy as np
    import pyarrow as pa

    null_N = np.asarray(reader.column(name).is_null())
    lengths_N = np.where(null_N, np.diff(offset_N), lengths_N)
    there_R = np.repeat(~null_N, lengths_N)
    index_R = np.where(there_R, np.cumsum(there_R) - 1, 0)
    return values.take(pa.array(index_R, mask=~there_R)), lengths_N


def _checked(reader: TableReader, name: str, first: str, lengths_N: Ints, offset_N: Ints) -> Ints:
    """The offsets, when the lists of each row are as long as those of the first column, and none is empty."""
    import numpy as np

    if name == first:
        if (lengths_N == 0).any():
            row = int((lengths_N == 0).argmax())
            raise fault(
                reader, row, f"column {name!r} must have a step in every row", "an empty list", "Remove the row."
            )
        return np.concatenate([offset_N, np.cumsum(lengths_N)])
    differs_N = lengths_N != np.diff(offset_N)
    if differs_N.any():
        row = int(differs_N.argmax())
        raise fault(
            reader,
            row,
            f"the lists of a row must be of one length, {int(np.diff(offset_N)[row])} as in column {first!r}",
            f"{int(lengths_N[row])} values in {name!r}",
            "Mend the row.",
        )
    return offset_N

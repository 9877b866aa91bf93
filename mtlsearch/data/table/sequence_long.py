"""Long format: a row is a moment, and a column says of which sequence. Sequences come in the order of first appearance.

Axes: N sequences, R rows of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import SequenceConfig, TableConfig
from mtlsearch.data.table.faults import check_named
from mtlsearch.data.table.kinds import as_texts
from mtlsearch.data.table.reader import TableReader
from mtlsearch.data.table.sequence_static import StaticFile, open_static
from mtlsearch.data.table.sequence_tables import SequenceTables, arranged, first_present, load, times_of
from mtlsearch.data.table.splits import codes_of
from mtlsearch.errors import ConfigError

if TYPE_CHECKING:
    from mtlsearch.data.columns import Ints


def long_tables(config: TableConfig, sequence: SequenceConfig, reader: TableReader) -> SequenceTables:
    """The two tables of a long one, and of its `static_path` where there is one.

    Raises:
        ConfigError: a row without id or time, a split or group that differs within a sequence, a static file that
            names a sequence twice or shares a column with the table.
    """
    import numpy as np
    import pyarrow as pa

    assert sequence.id is not None
    static = open_static(config, sequence, reader)
    code_R = codes_of(reader, "data.sequence.id", sequence.id)
    time_R = None
    if sequence.time is not None:
        time_R = times_of(reader, sequence.time, reader.column(sequence.time))
    order_R = np.argsort(code_R, kind="stable") if time_R is None else np.lexsort((time_R, code_R))
    offset_N = np.searchsorted(code_R[order_R], np.arange(int(code_R.max()) + 2))
    once = _once(config, sequence, reader, static)
    names = [name for name in reader.columns if name not in (sequence.id, *once)]
    exact = [name for task in config.tasks for name in task.label_columns]
    exact += [sequence.variable] if sequence.variable is not None else []
    columns = {name: column.take(order_R) for name, column in load(reader, [*names, *once], [*exact, *once]).items()}
    first_N = order_R[offset_N[:-1]]
    title_N = as_texts(reader.column(sequence.id)).combine_chunks().take(pa.array(first_N))
    _check_constant(
        config, {name: columns[name] for name in once}, offset_N, title_N, arranged(pa.table(columns), reader, order_R)
    )
    rows = first_present({name: columns[name] for name in once}, offset_N)
    steps = arranged(pa.table({name: columns[name] for name in names}), reader, order_R)
    tables = SequenceTables(
        arranged(pa.table(rows), reader, first_N),
        steps,
        offset_N.astype(np.int64),
        None if time_R is None else time_R[order_R],
        title_N,
    )
    return tables if static is None else static.joined(tables, reader.column(sequence.id).take(pa.array(first_N)))


def _once(
    config: TableConfig, sequence: SequenceConfig, reader: TableReader, static: StaticFile | None
) -> tuple[str, ...]:
    """The table's columns that a sequence has once."""
    roles = [config.group, config.time, config.split if isinstance(config.split, str) else None]
    named = [*sequence.static, *(name for name in roles if name is not None)]
    elsewhere = () if static is None else tuple(static.reader.columns)
    once = tuple(name for name in dict.fromkeys(named) if name not in elsewhere)
    check_named([("data", name) for name in once], (*reader.columns, *elsewhere), reader.file)
    return once


def _check_constant(
    config: TableConfig, columns: Mapping[str, Any], offset_N: Ints, title_N: Any, reader: TableReader
) -> None:
    """A split or group must be the same wherever a sequence has it: else some of its rows would leak."""
    import numpy as np
    import pyarrow.compute as pc

    sequence_R = np.repeat(np.arange(len(title_N)), np.diff(offset_N))
    firsts = first_present(columns, offset_N)
    for name in _torn(config, columns):
        first_R = firsts[name].take(sequence_R)
        differs_R = np.asarray(pc.fill_null(pc.not_equal(columns[name], first_R), False))
        if differs_R.any():
            row = int(differs_R.argmax())
            where, number = reader.where(row)
            raise ConfigError(
                f"column {name!r} must be the same in all rows of a sequence, but sequence "
                f"{title_N[sequence_R[row]].as_py()!r} has {first_R[row].as_py()!r} and, in data row {number}, "
                f"{columns[name][row].as_py()!r}. Mend the rows.",
                where,
            )


def _torn(config: TableConfig, columns: Mapping[str, Any]) -> Iterator[str]:
    yield from (name for name in (config.group, config.split) if isinstance(name, str) and name in columns)

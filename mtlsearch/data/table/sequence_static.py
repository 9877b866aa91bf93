"""The file of `static_path`: one row a sequence, joined to the sequences by their id.

Axes: N sequences, S rows of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import SequenceConfig, TableConfig
from mtlsearch.data.table.faults import check_named, check_present, fault
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.data.table.sequence_tables import SequenceTables, arranged, load
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class StaticFile:
    """The open file."""

    reader: TableReader
    id: str

    def joined(self, tables: SequenceTables, id_N: Any) -> SequenceTables:
        """The sequences with this file's columns too; missing where it does not have the sequence."""
        import numpy as np
        import pyarrow as pa

        row_N, num_alone = self._rows(id_N)
        absent_N = row_N < 0
        names = [name for name in self.reader.columns if name != self.id]
        take = pa.array(np.where(absent_N, 0, row_N), mask=absent_N)
        columns = {name: column.take(take) for name, column in load(self.reader, names, names).items()}
        before = {name: tables.rows.column(name) for name in tables.rows.columns}
        # Faults are said of this file: its columns are the ones that a person is most likely to have to mend.
        rows = arranged(pa.table(before | columns), self.reader, np.where(absent_N, 0, row_N))
        name, notes = self.reader.file.name, []
        if absent_N.any():
            notes.append(f"{int(absent_N.sum()):,} sequences have no row in {name}: its columns are missing there.")
        if num_alone:
            notes.append(f"{num_alone:,} rows of {name} belong to no sequence: they are left out.")
        return replace(tables, rows=rows, notes=(*tables.notes, *notes, *self.reader.notes))

    def _rows(self, id_N: Any) -> tuple[NDArray[np.int64], int]:
        """Of each sequence its row, or −1; and how many rows have no sequence."""
        import numpy as np

        ids = self.reader.column(self.id)
        check_present(self.reader, "data.sequence.id", self.id, ids, 0)
        key_S, key_N = _keys(ids, id_N)
        order_S = np.argsort(key_S, kind="stable")
        sorted_S = key_S[order_S]
        if len(twice := np.flatnonzero(sorted_S[1:] == sorted_S[:-1])):
            row = int(order_S[twice[0] + 1])
            raise fault(
                self.reader, row, "data.sequence.static_path needs one row a sequence", f"{ids[row].as_py()!r} again",
                "Remove one of them.",
            )  # fmt: skip
        index_N = np.searchsorted(sorted_S, key_N).clip(max=len(sorted_S) - 1)
        found_N = sorted_S[index_N] == key_N
        if not found_N.any():
            raise ConfigError(
                f"data.sequence.static_path must have rows of the table's sequences, but of column {self.id!r} no "
                f"value is in both; the table has {id_N[0].as_py()!r}, this file {ids[0].as_py()!r}. "
                "Is it the right file?",
                Where(self.reader.file),
            )
        return np.where(found_N, order_S[index_N], -1), len(ids) - int(found_N.sum())


def open_static(config: TableConfig, sequence: SequenceConfig, reader: TableReader) -> StaticFile | None:
    """The file, if there is one. Raises ConfigError when it lacks the id or shares another column with the table."""
    if sequence.static_path is None:
        return None
    assert sequence.id is not None
    static = open_table(sequence.static_path, config.missing, optional=config.labels_alone)
    check_named([("data.sequence.id", sequence.id)], tuple(static.columns), static.file)
    if shared := [name for name in static.columns if name in reader.columns and name != sequence.id]:
        raise ConfigError(
            f"a column must be in the table or in the file of data.sequence.static_path, but {shared[0]!r} is in both. "
            "Remove it from one of them.",
            Where(static.file),
        )
    return StaticFile(static, sequence.id)


def _keys(ids_S: Any, id_N: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is compared: numbers where both are, so that 7 of one file is the 7.0 of another; else texts."""
    import numpy as np
    import pyarrow.types as is_

    types = (ids_S.type, id_N.type)
    if all(is_.is_integer(each) for each in types):
        return np.asarray(ids_S).astype(np.int64), np.asarray(id_N).astype(np.int64)
    if all(is_.is_integer(each) or is_.is_floating(each) for each in types):
        return as_floats(ids_S), as_floats(id_N)
    return np.asarray(as_texts(ids_S).to_pylist(), str), np.asarray(as_texts(id_N).to_pylist(), str)

"""The source `table`: a user's own file, folder or glob.

Axes: N rows of a part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mtlsearch.config.table import TableConfig
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part
from mtlsearch.data.table.faults import check_named
from mtlsearch.data.table.files import find_files
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.labels import Labels, fit_labels
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.data.table.roles import Roles, roles_of
from mtlsearch.data.table.splits import split_rows
from mtlsearch.data.table.strata import class_notes, strata_of

if TYPE_CHECKING:
    from mtlsearch.data.table.shares import Codes

PART_BYTES = 32 << 20
"""About what a part's columns take; while it is made there are two of it."""

MOST_ROWS = 1 << 18

NUMBER_BYTES, TEXT_BYTES = 12, 48
"""Of a cell, while a part is made; a text's length is a guess."""


@dataclass(frozen=True)
class Table:
    """The source `table`."""

    config: TableConfig
    version: int = 1

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Those of the config; their classes are known when the table has been read."""
        return tuple(
            Task(name=each.title, kind=each.kind, metric=each.metric, unit=each.unit, at_step=each.at_step)
            for each in self.config.tasks
        )

    def files(self) -> tuple[Path, ...]:
        """The table's files, and those of the static columns beside it."""
        sequence = self.config.sequence
        static = find_files(sequence.static_path) if sequence is not None and sequence.static_path is not None else ()
        return find_files(self.config.path) + static

    def read(self, tasks: Sequence[Task]) -> Columns:
        """Looks through the table; its parts are read when they are asked for."""
        overrides: dict[str, Literal["number", "text"]] = {
            name: "text" if column.type == "category" else "number"
            for name, column in self.config.columns.items()
            if column.type in ("number", "category")
        }
        reader = open_table(self.config.path, self.config.missing, overrides, self.config.labels_alone)
        try:
            if self.config.sequence is not None:
                from mtlsearch.data.table.sequences import read_sequences

                return read_sequences(self.config, tasks, reader)
            return read_rows(self.config, tasks, reader)
        except BaseException:
            reader.close()
            raise


def read_rows(config: TableConfig, tasks: Sequence[Task], reader: TableReader) -> Columns:
    """A table whose every line is a row.

    Raises:
        ConfigError: a column is not there, or does not fit what it is named for.
    """
    check_named(_named(config), tuple(reader.columns), reader.file)
    configs = {each.title: each for each in config.tasks}
    labels = {each.name: fit_labels(reader, configs[each.name], each) for each in tasks}

    def strata() -> Codes:
        # Of all the config's tasks, so that the split is the same whichever of them are learnt.
        others = {each.name: each for each in Table(config).tasks if each.name not in labels}
        known = labels | {name: fit_labels(reader, configs[name], task) for name, task in others.items()}
        return strata_of(reader, [known[name] for name in configs])

    rows, note = split_rows(config, reader, strata)
    roles = roles_of(config, reader)
    return Columns(
        tasks=tuple(each.task for each in labels.values()),
        rows=rows,
        parts=lambda: _parts(reader, roles, tuple(labels.values())),
        encodings={name: config.columns[name].encode for name in roles.numbers if name in config.columns},
        notes=(*roles.notes, note, *class_notes(reader, labels.values(), rows["train"]), *reader.notes),
    )


def _parts(reader: TableReader, roles: Roles, labels: Sequence[Labels]) -> Iterator[Part]:
    import numpy as np

    label_columns = [column for each in labels for column in each.columns]
    names = list(dict.fromkeys([*roles.numbers, *roles.categories, *label_columns]))
    width = (len(roles.numbers) + len(label_columns)) * NUMBER_BYTES + len(roles.categories) * TEXT_BYTES
    for batch in reader.batches(names, max(1, min(MOST_ROWS, PART_BYTES // width))):
        arrays = dict(zip(names, batch.columns, strict=True))
        yield Part(
            numeric={name: as_floats(arrays[name]).astype(np.float32) for name in roles.numbers},
            categorical={name: as_texts(arrays[name]) for name in roles.categories},
            labels={each.task.name: each.floats(arrays) for each in labels},
            weights={
                each.task.name: as_floats(arrays[each.weight]).astype(np.float32)
                for each in labels
                if each.weight is not None
            },
        )


def _named(config: TableConfig) -> Iterator[tuple[str, str]]:
    """Where the config names a column, and the column."""
    for index, task in enumerate(config.tasks):
        yield from ((f"data.tasks[{index}]", name) for name in task.label_columns)
        if task.weight is not None:
            yield f"data.tasks[{index}].weight", task.weight
    yield from (("data.drop", name) for name in config.drop)
    yield from (("data.columns", name) for name in config.columns)
    for key, name in (("group", config.group), ("time", config.time), ("split", config.split)):
        if isinstance(name, str):
            yield f"data.{key}", name

"""A user's own sequences, long or nested, read as the experiment read its own: the same columns, steps and channels.

What is read stays in memory, as it does in training; predictions are made block by block.

Axes: N sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtlsearch.config import FractionsConfig, SequenceConfig, TableConfig
from mtlsearch.data import DataSchema
from mtlsearch.data.sequences.binning import measured_variables
from mtlsearch.data.sequences.summaries import SUMMARIES
from mtlsearch.data.table.faults import floats_of
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.data.table.roles import Roles
from mtlsearch.data.table.sequence_long import long_tables
from mtlsearch.data.table.sequence_nested import nested_tables
from mtlsearch.data.table.sequence_parts import SequenceParts, plan_steps
from mtlsearch.data.table.sequence_roles import SequenceRoles
from mtlsearch.data.table.sequence_tables import ArrangedReader, SequenceTables
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.encode import Unseen, encode_part
from mtlsearch.export.raw_rows import Piece, RawRows, category_names, check_has, check_plain, num_rows


@dataclass(frozen=True)
class SequenceColumns:
    """The raw columns that the encoders were taught on."""

    step_numbers: tuple[str, ...]
    """Or the variables, where a row is a measurement."""
    step_categories: tuple[str, ...]
    row_numbers: tuple[str, ...]
    row_categories: tuple[str, ...]

    @classmethod
    def of(cls, sequence: SequenceConfig, schema: DataSchema) -> SequenceColumns:
        """Told by the encoders' names: what is made of a column is named after it."""
        names = [encoder.name for encoder in schema.step_numeric]
        if sequence.step is None:
            made = {f"{sequence.time} since the step before"} if sequence.time is not None else set()
            step_numbers = [name for name in names if name not in made]
        else:
            step_numbers = list(dict.fromkeys(measured_variables(names)))
        summaries = {f"{name} {said}" for name in step_numbers for said in SUMMARIES.values() if sequence.summaries}
        row_numbers = [encoder.name for encoder in schema.numeric if encoder.name not in summaries]
        return cls(
            tuple(step_numbers),
            tuple(category_names(schema.step_categorical)),
            tuple(row_numbers),
            tuple(category_names(schema.categorical)),
        )

    def in_table(self, sequence: SequenceConfig) -> list[str]:
        """Those that a table with a row a moment, or a row a sequence, must have for its steps."""
        named = [sequence.id, sequence.time]
        of_steps = (
            [sequence.variable, sequence.value]
            if sequence.variable is not None
            else [*self.step_numbers, *self.step_categories]
        )
        return [name for name in (*named, *of_steps) if name is not None]

    @property
    def of_rows(self) -> tuple[str, ...]:
        """Those that a sequence has once."""
        return (*self.row_numbers, *self.row_categories)


def sequence_rows(
    reader: TableReader, data: TableConfig, schema: DataSchema, keep: Sequence[str], unseen: Unseen, static: str | None
) -> RawRows:
    """Sequences in the order of their first rows. Of the long format the id passes through, be it kept or not.

    Args:
        keep: columns of the table; of several rows of a sequence the first moment's value passes through.
        static: a file with one row a sequence and the id, for columns that the table does not have.
    Raises:
        ConfigError: a column is not there, holds what it must not, or a sequence is none.
    """
    import pyarrow as pa

    sequence = data.sequence
    assert sequence is not None
    passing = list(dict.fromkeys([*([sequence.id] if sequence.id is not None else []), *keep]))
    columns = SequenceColumns.of(sequence, schema)
    check_has(reader, columns.in_table(sequence), "the data must have every column that the model reads")
    check_has(reader, passing, "--keep must name columns of the data")
    _check_static(reader, data, columns, static)
    schema_of_kept = pa.schema([reader.schema.field(name) for name in passing])

    def pieces() -> Iterator[Piece]:
        if reader.num_rows == 0:
            return
        tables = _tables(reader, data, columns, static)
        assert isinstance(tables.steps, ArrangedReader)
        first_N = pa.array(tables.steps.row_N[tables.offset_N[:-1]])
        kept = [reader.column(name).take(first_N).combine_chunks() for name in passing]
        roles = SequenceRoles(
            Roles(columns.row_numbers, columns.row_categories, (), {}),
            Roles(columns.step_numbers, columns.step_categories, (), {}),
            {},
        )
        start = 0
        for part in SequenceParts(sequence, tables, roles, (), plan_steps(sequence, tables))():
            count = num_rows(part)
            yield [_slice(array, start, count) for array in kept], encode_part(part, count, schema, unseen)
            start += count

    return RawRows(schema_of_kept, pieces)


def _slice(array: Any, start: int, count: int) -> Any:
    return array.slice(start, count)


def _tables(reader: TableReader, data: TableConfig, columns: SequenceColumns, static: str | None) -> SequenceTables:
    """As in training, but for what splits and labels need."""
    assert data.sequence is not None
    here = [name for name in columns.of_rows if name in reader.columns]
    long = data.sequence.id is not None
    sequence = data.sequence.model_copy(update={"static": tuple(here) if long else (), "static_path": static})
    bare = {"tasks": (), "group": None, "time": None, "split": FractionsConfig(), "drop": (), "sequence": sequence}
    config = data.model_copy(update=bare)
    wanted = {*columns.in_table(sequence), *here}
    view = replace(reader, schema=_subset(reader, wanted), spool=None)
    tables = long_tables(config, sequence, view) if long else nested_tables(config, sequence, view)
    values = (sequence.value,) if sequence.value is not None else columns.step_numbers
    for table, names in ((tables.rows, columns.row_numbers), (tables.steps, values)):
        for name in names:
            for _ in floats_of(table, name):
                pass  # a text, or a number beyond float32, is an error
    return tables


def _subset(reader: TableReader, names: set[str]) -> Any:
    import pyarrow as pa

    return pa.schema([field for field in reader.schema if field.name in names])


def _check_static(reader: TableReader, data: TableConfig, columns: SequenceColumns, static: str | None) -> None:
    """What a sequence has once is in the table, or in the file of `--static`; lists are where steps are lists."""
    assert data.sequence is not None
    if static is not None and data.sequence.id is None:
        raise ConfigError("--static belongs to the long format, but the model reads nested sequences. Leave it out.")
    elsewhere = [name for name in columns.of_rows if name not in reader.columns]
    if static is None and elsewhere:
        must = "the data must have every column that the model reads"
        if data.sequence.static_path is not None:
            must += " (a second file with one row a sequence is given with --static)"
        check_has(reader, elsewhere, must)
    if static is not None:
        with open_table(static, data.missing) as beside:
            check_has(beside, elsewhere, "the file of --static must have every column that the data lacks")
            check_plain(beside, elsewhere)
    check_plain(reader, [name for name in columns.of_rows if name in reader.columns])
    steps = [name for name in columns.in_table(data.sequence) if name != data.sequence.id]
    if data.sequence.id is not None:
        check_plain(reader, steps)
        return
    for name in steps:
        if reader.columns[name].kind != "list":
            raise ConfigError(
                f"column {name!r} must hold a list a row, one value a step, but it is of type "
                f"{reader.columns[name].arrow}.",
                Where(reader.file),
            )

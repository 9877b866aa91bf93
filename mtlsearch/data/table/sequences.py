"""The user's own sequences: long or nested tables, one row or one stretch of time a step.

What is read stays in memory, with the columns that are needed alone: numbers as float32, texts as codes. A table
that is larger than that is best summed up to fewer rows before, or cut into nested Parquet.

Axes: N sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mtlsearch.config.table import SequenceConfig, TableConfig, TableTask
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns
from mtlsearch.data.table.faults import check_named
from mtlsearch.data.table.labels import Labels, fit_labels
from mtlsearch.data.table.reader import TableReader
from mtlsearch.data.table.sequence_long import long_tables
from mtlsearch.data.table.sequence_nested import nested_tables
from mtlsearch.data.table.sequence_parts import SequenceParts, plan_steps
from mtlsearch.data.table.sequence_roles import sequence_roles
from mtlsearch.data.table.sequence_tables import SequenceTables
from mtlsearch.data.table.splits import split_rows
from mtlsearch.data.table.strata import class_notes, strata_of
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.table.shares import Codes


def read_sequences(config: TableConfig, tasks: Sequence[Task], reader: TableReader) -> Columns:
    """Sequences as rows; a task whose column has a value a step becomes one with a label a step.

    Raises:
        ConfigError: a column is not there, or does not fit what it is named for.
    """
    sequence = config.sequence
    assert sequence is not None
    check_named(_named(sequence), tuple(reader.columns), reader.file)
    tables = nested_tables(config, sequence, reader) if sequence.id is None else long_tables(config, sequence, reader)
    check_named(_named_once(config), tuple(tables.rows.columns), tables.rows.file)
    configs = {each.title: each for each in config.tasks}
    labels = {each.name: _labels(tables, configs[each.name], each) for each in tasks}
    _check_future(sequence, [each.task for each in labels.values()])

    def strata() -> Codes:
        # Of all the config's tasks, so that the split is the same whichever of them are learnt.
        every = (_labels(tables, each, _task(each)) for each in config.tasks)
        return strata_of(tables.rows, [each for each in every if not each.task.per_step])

    rows, note = split_rows(config, tables.rows, strata)
    roles = sequence_roles(config, sequence, tables)
    once = [each for each in labels.values() if not each.task.per_step]
    return Columns(
        tasks=tuple(each.task for each in labels.values()),
        rows=rows,
        parts=SequenceParts(sequence, tables, roles, tuple(labels.values()), plan_steps(sequence, tables)),
        encodings=roles.encodings,
        notes=(*roles.notes, note, *class_notes(tables.rows, once, rows["train"]), *tables.notes, *reader.notes),
    )


def _task(config: TableTask) -> Task:
    return Task(name=config.title, kind=config.kind, metric=config.metric, unit=config.unit, at_step=config.at_step)


def _labels(tables: SequenceTables, config: TableTask, task: Task) -> Labels:
    """Of each sequence, when its columns have a value a sequence; else of each step."""
    if all(name in tables.rows.columns for name in config.label_columns):
        _check_weight(tables, config)
        return fit_labels(tables.rows, config, task)
    known = (*tables.rows.columns, *tables.steps.columns)
    check_named([(f"task {task.name!r}", name) for name in config.label_columns], known, tables.steps.file)
    if odd := [name for name in config.label_columns if name not in tables.steps.columns]:
        raise ConfigError(
            f"task {task.name!r}: its columns must all have a value a step or all one a sequence, but {odd[0]!r} has "
            "one a sequence and others do not. See data.sequence.static.",
            Where(tables.steps.file),
        )
    if task.at_step is not None:
        raise ConfigError(
            f"task {task.name!r}: `at_step` belongs to one label a sequence, but column {config.label_columns[0]!r} "
            "has one a step. List the column under data.sequence.static, or leave `at_step` out."
        )
    if config.weight is not None:
        raise ConfigError(
            f"task {task.name!r}: `weight` belongs to one label a sequence, but column {config.label_columns[0]!r} "
            "has one a step. Leave `weight` out."
        )
    return fit_labels(tables.steps, config, task.model_copy(update={"per_step": True}))


def _check_weight(tables: SequenceTables, config: TableTask) -> None:
    if config.weight is not None and config.weight not in tables.rows.columns:
        raise ConfigError(
            f"task {config.title!r}: the weight must have one value a sequence, but {config.weight!r} is no such "
            "column. List it under data.sequence.static.",
            Where(tables.rows.file),
        )


def _check_future(sequence: SequenceConfig, tasks: Sequence[Task]) -> None:
    """Summaries are of the whole sequence: what is predicted earlier must not see them."""
    early = [task for task in tasks if task.per_step or task.at_step is not None]
    if sequence.summaries and early:
        when = "has a label a step" if early[0].per_step else f"is predicted at step {early[0].at_step}"
        raise ConfigError(
            f"data.sequence.summaries must be false where a task is predicted before the end, but {early[0].name!r} "
            f"{when}: a summary of the whole sequence would tell it the future. Set summaries to false."
        )


def _named(sequence: SequenceConfig) -> Iterator[tuple[str, str]]:
    """Where the config names a column of the table, and the column."""
    for key, name in (
        ("id", sequence.id),
        ("time", sequence.time),
        ("variable", sequence.variable),
        ("value", sequence.value),
    ):
        if name is not None:
            yield f"data.sequence.{key}", name
    if sequence.static_path is None:
        yield from (("data.sequence.static", name) for name in sequence.static)


def _named_once(config: TableConfig) -> Iterator[tuple[str, str]]:
    """Where the config names a column with one value a sequence, and the column."""
    for key, name in (("group", config.group), ("time", config.time), ("split", config.split)):
        if isinstance(name, str):
            yield f"data.{key}", name

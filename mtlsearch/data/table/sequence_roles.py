"""Which columns of sequences are inputs, of a sequence or of a step, and how they are encoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtlsearch.config.encoding import Encoding
from mtlsearch.config.table import ColumnConfig, SequenceConfig, TableConfig
from mtlsearch.data.sequences.binning import channel_encodings
from mtlsearch.data.sequences.summaries import summary_encodings
from mtlsearch.data.table.faults import check_named
from mtlsearch.data.table.kinds import as_texts
from mtlsearch.data.table.profile import profiles
from mtlsearch.data.table.reader import TableReader
from mtlsearch.data.table.roles import Roles, kind_of
from mtlsearch.data.table.sequence_tables import SequenceTables
from mtlsearch.errors import ConfigError, Where


@dataclass(frozen=True)
class SequenceRoles:
    """What each column is for."""

    rows: Roles
    """Of a sequence."""
    steps: Roles
    """Of a step; of measurements the numbers are the variables."""
    encodings: Mapping[str, Encoding]

    @property
    def notes(self) -> tuple[str, ...]:
        """For people."""
        of = (("A sequence", self.rows), ("A step", self.steps))
        said = ((what, note) for what, roles in of for note in roles.notes if _says(roles, note))
        return tuple(f"{what} – {note[0].lower()}{note[1:]}" for what, note in said)


def sequence_roles(config: TableConfig, sequence: SequenceConfig, tables: SequenceTables) -> SequenceRoles:
    """Looks through both tables.

    Raises:
        ConfigError: no step has an input, an input is infinite, or a column cannot be what `data.columns` says.
    """
    rows = _roles(config, tables.rows, dict(_reserved(config, sequence)))
    steps = _measured(config, sequence, tables) if sequence.variable else None
    steps = steps or _roles(config, tables.steps, dict(_reserved(config, sequence)))
    known = {*rows.numbers, *rows.categories, *rows.left_out, *steps.numbers, *steps.categories, *steps.left_out}
    known |= {name for name in (sequence.id,) if name is not None}
    check_named([("data.columns", name) for name in config.columns], tuple(sorted(known)), tables.steps.file)
    if not (steps.numbers or steps.categories):
        raise ConfigError(
            f"a step must have a column that is an input, but none is left. {' '.join(steps.notes)} "
            "To keep one all the same, name it under data.columns.",
            Where(tables.steps.file),
        )
    return SequenceRoles(rows, steps, dict(_encodings(config, sequence, rows, steps)))


def _roles(config: TableConfig, reader: TableReader, reserved: Mapping[str, str]) -> Roles:
    left_out = {name: why for name, why in reserved.items() if name in reader.columns}
    kinds: dict[str, Literal["number", "category"]] = {}
    for name in reader.columns:
        if name not in left_out:
            if (kind := kind_of(name, config.columns.get(name, ColumnConfig()), reader)) is None:
                left_out[name] = f"type {reader.columns[name].arrow}"
            else:
                kinds[name] = kind
    for name, profile in profiles(reader, kinds).items():
        if reason := profile.reason(reader, name in config.columns):
            left_out[name] = reason
    taken = {name: kind for name, kind in kinds.items() if name not in left_out}
    numbers = tuple(name for name, kind in taken.items() if kind == "number")
    return Roles(
        numbers=numbers,
        categories=tuple(name for name, kind in taken.items() if kind == "category"),
        dates=tuple(name for name in numbers if reader.columns[name].kind == "date"),
        left_out=left_out,
    )


def _measured(config: TableConfig, sequence: SequenceConfig, tables: SequenceTables) -> Roles:
    """Of a table with a row a measurement: its variables; other columns say nothing of a step."""
    import pyarrow.compute as pc

    assert sequence.variable is not None
    names = sorted(pc.unique(as_texts(tables.steps.column(sequence.variable)).drop_null()).to_pylist())
    dropped = {name for name in names if name in config.drop or config.columns.get(name, ColumnConfig()).type == "drop"}
    others = [name for name in tables.steps.columns if name not in (sequence.variable, sequence.value)]
    reserved = dict(_reserved(config, sequence))
    left_out = {name: reserved.get(name, "not a measurement") for name in others}
    left_out |= dict.fromkeys(dropped, "dropped by data")
    return Roles(tuple(name for name in names if name not in dropped), (), (), left_out)


def _reserved(config: TableConfig, sequence: SequenceConfig) -> Iterator[tuple[str, str]]:
    """Columns that are no inputs whatever they hold. Where two reasons fit, the later one counts."""
    yield from ((name, "dropped by data") for name in config.drop)
    yield from ((name, "dropped by data") for name, column in config.columns.items() if column.type == "drop")
    roles: tuple[tuple[Any, str], ...] = (
        (config.time if config.time not in config.columns else None, "time"),
        (sequence.time, "time"),
        (config.group, "group"),
        (config.split, "split"),
    )
    yield from ((name, why) for name, why in roles if isinstance(name, str))
    yield from ((task.weight, "weight") for task in config.tasks if task.weight is not None)
    yield from ((name, "label") for task in config.tasks for name in task.label_columns)


def _encodings(
    config: TableConfig, sequence: SequenceConfig, rows: Roles, steps: Roles
) -> Iterator[tuple[str, Encoding]]:
    yield from ((name, config.columns[name].encode) for name in rows.numbers if name in config.columns)
    for name in steps.numbers:
        wanted = config.columns[name].encode if name in config.columns else None
        if sequence.step is not None:
            yield from channel_encodings(name, sequence.channels, wanted).items()
        elif wanted is not None:
            yield name, wanted
        if sequence.summaries:
            yield from summary_encodings(name, wanted).items()


def _says(roles: Roles, note: str) -> bool:
    """Without inputs there is nothing to say of them."""
    return bool(roles.numbers or roles.categories) or not note.startswith("Inputs")

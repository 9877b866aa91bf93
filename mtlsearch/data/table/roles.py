"""Which columns are inputs, as what, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mtlsearch.config.table import ColumnConfig, TableConfig
from mtlsearch.data.table.profile import profiles
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

_LISTED = 12
"""Names that a note lists before it counts the rest."""


@dataclass(frozen=True)
class Roles:
    """What each column of the table is for."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    dates: tuple[str, ...]
    """Those of the numbers that are days since 1970."""
    left_out: Mapping[str, str]
    """Column → why it is no input."""

    @property
    def notes(self) -> tuple[str, ...]:
        """For people: one sentence a role, one for what is left out."""
        plain = [name for name in self.numbers if name not in self.dates]
        roles = (("numbers", plain), ("dates as days since 1970", self.dates), ("categories", self.categories))
        taken = "; ".join(f"{role} ({len(names)}): {_some(names)}" for role, names in roles if names)
        reasons = dict.fromkeys(self.left_out.values())
        left = (f"{why}: {_some([n for n, w in self.left_out.items() if w == why])}" for why in reasons)
        return (f"Inputs: {taken}.", *((f"No inputs: {'; '.join(left)}.",) if reasons else ()))


def roles_of(config: TableConfig, reader: TableReader) -> Roles:
    """Looks through the table.

    Raises:
        ConfigError: no column is left, an input is infinite, or a column cannot be what `data.columns` says.
    """
    left_out = dict(_reserved(config))
    kinds: dict[str, Literal["number", "category"]] = {}
    for name in reader.columns:
        kind = None if name in left_out else kind_of(name, config.columns.get(name, ColumnConfig()), reader)
        if kind is not None:
            kinds[name] = kind
        elif name not in left_out:
            left_out[name] = f"type {reader.columns[name].arrow}"
    for name, profile in profiles(reader, kinds).items():
        if reason := profile.reason(reader, name in config.columns):
            left_out[name] = reason
    return _roles({name: kind for name, kind in kinds.items() if name not in left_out}, left_out, reader)


def kind_of(name: str, column: ColumnConfig, reader: TableReader) -> Literal["number", "category"] | None:
    """What a column is as an input; None when it cannot be one.

    Raises:
        ConfigError: `data.columns` asks for what it cannot be.
    """
    found = reader.columns[name]
    if found.kind in ("list", "other"):
        if column.type != "auto":
            raise ConfigError(
                f"data.columns: {name!r} cannot be a {column.type}, for it is of type {found.arrow}. Drop it, or write "
                "the file with plain columns.",
                Where(reader.file),
            )
        return None
    if column.type != "auto":
        return "number" if column.type == "number" else "category"
    return "category" if found.kind == "text" else "number"


def _reserved(config: TableConfig) -> Iterator[tuple[str, str]]:
    """Columns that are no inputs whatever they hold. Where two reasons fit, the later one counts."""
    yield from ((name, "dropped on request") for name in config.drop)
    yield from ((name, "dropped on request") for name, column in config.columns.items() if column.type == "drop")
    if config.time is not None and config.columns.get(config.time, ColumnConfig(type="drop")).type == "drop":
        yield config.time, "time"
    if config.group is not None:
        yield config.group, "group"
    if isinstance(config.split, str):
        yield config.split, "split"
    for task in config.tasks:
        if task.weight is not None:
            yield task.weight, "weight"
    for task in config.tasks:
        yield from ((name, "label") for name in task.label_columns)


def _roles(kinds: Mapping[str, str], left_out: Mapping[str, str], reader: TableReader) -> Roles:
    roles = Roles(
        numbers=tuple(name for name, kind in kinds.items() if kind == "number"),
        categories=tuple(name for name, kind in kinds.items() if kind == "category"),
        dates=tuple(name for name, kind in kinds.items() if kind == "number" and reader.columns[name].kind == "date"),
        left_out=left_out,
    )
    if not kinds:
        raise ConfigError(
            "the table must have a column that is an input, but none is left. "
            f"{roles.notes[-1]} To keep one all the same, name it under data.columns.",
            Where(reader.file),
        )
    return roles


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(name or "''" for name in names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")

"""The columns that several files have in common."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mtlsearch.data.table.kinds import column_type, is_text
from mtlsearch.errors import ConfigError, Where

MOST_NAMED = 4
"""Files that a sentence names."""


def unified(schemas: Sequence[tuple[Path, Any]], optional: Collection[str] = ()) -> Any:
    """One pyarrow Schema for all files, with the columns of `common_names`.

    A column may be null in one file and of any type in others, or of different widths.

    Raises:
        ConfigError: a name twice, a column more or less than the first file has, or one of another kind.
    """
    import pyarrow as pa

    names = common_names([(path, schema.names) for path, schema in schemas], optional)
    return pa.schema([(name, _type(name, schemas)) for name in names])


def common_names(
    files: Sequence[tuple[Path, Sequence[str]]], optional: Collection[str], line: int | None = None
) -> list[str]:
    """The first file's columns in its order, and after them the optional ones that only others have.

    Args:
        files: with the names of their columns, in any order.
        optional: columns that a file may lack.
        line: of a file, on which the names stand.
    Raises:
        ConfigError: a name twice, or a column more or less than the first file has.
    """
    first_path, first = files[0]
    for path, names in files:
        check_names(path, names)
        if odd := sorted((set(names) ^ set(first)) - set(optional)):
            has = "has" if odd[0] in names else "lacks"
            raise ConfigError(
                f"the files of a table must have the same columns, but this one {has} {odd[0]!r} unlike "
                f"{first_path.name}. Mend it, or leave the file out.",
                Where(path, line),
            )
    return list(dict.fromkeys([*first, *(name for _, names in files for name in names)]))


def lack_notes(files: Sequence[tuple[Path, Sequence[str]]], names: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each of the table's columns that some of its files lack."""
    notes = []
    for name in names:
        lacking = [path.name for path, has in files if name not in has]
        if lacking:
            rest = f" and {len(lacking) - MOST_NAMED} more files" if len(lacking) > MOST_NAMED else ""
            notes.append(f"Labels {name!r} are missing in {', '.join(lacking[:MOST_NAMED])}{rest}: no such column.")
    return tuple(notes)


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises ConfigError when a name is there twice."""
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise ConfigError(f"a column is named once, but the file has {twice[0]!r} twice. Rename one.", Where(path))


def _type(name: str, schemas: Sequence[tuple[Path, Any]]) -> Any:
    import pyarrow as pa

    having = [(path, schema.field(name).type) for path, schema in schemas if name in schema.names]
    typed = [(path, each) for path, each in having if not pa.types.is_null(each)]
    if not typed:
        return pa.null()
    (first_path, first), kind = typed[0], column_type(typed[0][1]).kind
    for path, each in typed:
        if column_type(each).kind != kind or (kind in ("list", "other") and each != first):
            raise ConfigError(
                f"column {name!r} must be of one type in all files, but here it is {each} and in {first_path.name} "
                f"{first}. Write the files again with one type.",
                Where(path),
            )
    if all(each == first for _, each in typed):
        return first
    match kind:
        case "number":
            return pa.float64()
        case "date":
            return pa.timestamp("us")
        case _:
            assert kind == "text" or is_text(first)
            return pa.string()

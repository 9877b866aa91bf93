"""The columns that several files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtlsearch.data.table.kinds import column_type, is_text
from mtlsearch.errors import ConfigError, Where


def unified(schemas: Sequence[tuple[Path, Any]]) -> Any:
    """One pyarrow Schema for all files, in the order of the first one's columns.

    A column may be null in one file and of any type in others, or of different widths.

    Raises:
        ConfigError: a name twice, a column more or less than the first file has, or one of another kind.
    """
    import pyarrow as pa

    first_path, first = schemas[0]
    for path, schema in schemas:
        check_names(path, schema.names)
        if odd := sorted(set(schema.names) ^ set(first.names)):
            has = "has" if odd[0] in schema.names else "lacks"
            raise ConfigError(
                f"the files of a table must have the same columns, but this one {has} {odd[0]!r} unlike "
                f"{first_path.name}. Mend it, or leave the file out.",
                Where(path),
            )
    return pa.schema([(name, _type(name, schemas)) for name in first.names])


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raises ConfigError when a name is there twice."""
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise ConfigError(f"a column is named once, but the file has {twice[0]!r} twice. Rename one.", Where(path))


def _type(name: str, schemas: Sequence[tuple[Path, Any]]) -> Any:
    import pyarrow as pa

    typed = [(path, each) for path, schema in schemas if not pa.types.is_null(each := schema.field(name).type)]
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

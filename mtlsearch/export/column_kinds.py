"""What the raw columns held when the model learnt from them, and whether other rows hold the like.

Days since 1970 are a number, and so is a true or false: an encoder alone would take an integer for either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mtlsearch.config import DataConfig
from mtlsearch.data import DataSchema
from mtlsearch.data.identity import digest_of
from mtlsearch.data.sources import source_of
from mtlsearch.data.table.kinds import column_type
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.raw_rows import category_names

ColumnKind = Literal["number", "flag", "date", "text"]

_HOLDS: Mapping[str, str] = {"number": "numbers", "flag": "true or false", "date": "timestamps", "text": "texts"}


def learnt_kinds(data: DataConfig, schema: DataSchema) -> dict[str, ColumnKind]:
    """Column → kind, of the table that the experiment read; of lists, of their elements.

    Without columns of a CSV file that are read as texts, where the file says nothing. Empty for a built-in data set,
    and where the table is gone or another by now.
    """
    if data.source != "table":
        return {}
    source = source_of(data)
    try:
        files = source.files()
    except ConfigError:  # gone: the model is as good without it, only less wary
        return {}
    with tempfile.TemporaryDirectory() as memory:
        if digest_of(data, source.version, files, Path(memory)) != schema.data_digest:
            return {}
    with open_table(data.path, data.missing, None, data.labels_alone) as reader:
        as_texts = category_names((*schema.categorical, *schema.step_categorical)) if reader.spool is not None else []
        kinds = {name: kind_of(reader.schema.field(name).type) for name in reader.columns if name not in as_texts}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def check_kinds(
    reader: TableReader, names: Sequence[str], learnt: Mapping[str, ColumnKind], texts: Sequence[str]
) -> None:
    """Refuses columns of another kind than training had. One that has no value at all is of any kind.

    Args:
        names: columns that the model reads.
        learnt: column → kind, where it is known.
        texts: those of them that are read as texts: a text is as good there as what it spells.
    Raises:
        ConfigError: a column is of another kind.
    """
    for name in names:
        wanted = learnt.get(name)
        if wanted is None or name not in reader.columns:
            continue
        arrow = reader.schema.field(name).type
        found = kind_of(arrow)
        spelt = found == "text" and (name in texts or wanted == "number")  # else told later, with its place
        spells = found == "number" and wanted == "text" and name not in texts
        if found in (None, wanted) or spelt or spells or _is_void(reader, name):
            continue
        holds = "integers" if column_type(arrow).is_integer else _HOLDS[str(found)]
        raise ConfigError(
            f"column {name!r} must hold {_HOLDS[wanted]}, as in training, but holds {holds}. Convert it.",
            Where(reader.file),
        )


def kind_of(arrow: Any) -> ColumnKind | None:
    """Of a pyarrow type; None for what is neither one of them nor a list of them."""
    kind = column_type(arrow).kind
    if kind == "list":
        return kind_of(arrow.value_type)
    return None if kind == "other" else kind


def _is_void(reader: TableReader, name: str) -> bool:
    """Whether all its values are missing."""
    import pyarrow.compute as pc

    column = reader.column(name)
    if pc.all(pc.is_null(column, nan_is_null=True), min_count=0).as_py():
        return True
    return column_type(column.type).kind == "list" and len(pc.list_flatten(column).drop_null()) == 0

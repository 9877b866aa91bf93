"""Which rows train, validate, test.

Axes: N rows of the table, G groups, K names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from mtlsearch.config.table import TableConfig
from mtlsearch.data.columns import SPLITS, SplitName
from mtlsearch.data.table.faults import arrays_of, check_present, floats_of, texts_of
from mtlsearch.data.table.reader import TableReader
from mtlsearch.data.table.shares import Codes, at_random, by_group, by_time
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Ints


Strata: TypeAlias = "Callable[[], Codes]"

NAMES = {
    "train": 0,
    "training": 0,
    "validation": 1,
    "valid": 1,
    "val": 1,
    "dev": 1,
    "test": 2,
    "testing": 2,
}
"""What a split column may say → index into SPLITS."""


def split_rows(config: TableConfig, reader: TableReader, strata: Strata) -> tuple[dict[SplitName, Ints], str]:
    """Split → its row numbers, ascending; and a note that says how they were chosen.

    Args:
        strata: gives a stratum, from 0, for each row: of each one every split has its share. Called when needed.
    Raises:
        ConfigError: a split is empty; a split, group or time is missing or not what it must be.
    """
    import numpy as np

    split_N, note = _split(config, reader, strata)
    rows = {name: np.flatnonzero(split_N == index) for index, name in enumerate(SPLITS)}
    for name in SPLITS:
        if not len(rows[name]):
            raise ConfigError(
                f"every split must have rows, but {name} is empty. Add rows, or change data.split.", Where(reader.file)
            )
    return rows, note


def _split(config: TableConfig, reader: TableReader, strata: Strata) -> tuple[Codes, str]:
    if isinstance(config.split, str):
        split_N = _named(reader, config.split)
        if config.group is not None:
            _check_groups(reader, config.group, split_N)
        return split_N, f"Splits are those of column {config.split!r}."
    if config.group is not None:
        group_N = codes_of(reader, "data.group", config.group)
        when = None if config.time is None else times_of(reader, config.time)
        order = f"in the random order of seed {config.split.seed}" if when is None else f"by earliest {config.time!r}"
        split = _enough(by_group(group_N, config.split, when), "group", config.group, reader)
        return split, f"Splits keep rows of equal {config.group!r} together, {order}."
    if config.time is not None:
        split = _enough(by_time(times_of(reader, config.time), config.split), "time", config.time, reader)
        return split, f"Splits follow each other by {config.time!r}: train first, test last."
    return at_random(strata(), config.split), f"Splits are random, of seed {config.split.seed}."


def _enough(split_N: Codes | None, what: str, name: str, reader: TableReader) -> Codes:
    if split_N is None:
        raise ConfigError(
            f"a split by {what} needs at least 3 different values, one a split, but column {name!r} has fewer. "
            f"Leave data.{what} out, or name another column.",
            Where(reader.file),
        )
    return split_N


def codes_of(reader: TableReader, key: str, name: str) -> NDArray[np.int32]:
    """int32 [N]: which of the column's values each row has, from 0 in the order of their first appearance.

    Args:
        key: of the config, for messages: every row must have a value.
    """
    import numpy as np
    import pyarrow as pa

    if reader.columns[name].kind in ("list", "other"):
        raise ConfigError(
            f"{key} needs texts or numbers, but column {name!r} is of type {reader.columns[name].arrow}.",
            Where(reader.file),
        )
    column = reader.column(name)
    check_present(reader, key, name, column, 0)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    codes = column.dictionary_encode()  # of all chunks with one dictionary
    return np.concatenate([np.asarray(chunk.indices, dtype=np.int32) for chunk in codes.chunks])


def times_of(reader: TableReader, name: str) -> NDArray[np.generic]:
    """The column's times [N], each to its last nanosecond (float64 would round it), or numbers."""
    import numpy as np
    import pyarrow as pa

    kind = reader.columns[name].kind
    if kind not in ("number", "date"):
        row, texts = next(texts_of(reader, name)) if kind in ("text", "flag") else (0, [str(kind)])
        raise ConfigError(
            f"data.time needs numbers, dates or timestamps, but column {name!r} is {kind} (data row {row + 1} holds "
            f"{str(texts[0])!r}). Write times as 2024-12-31 23:59:59.",
            reader.where(row)[0],
        )
    times = []
    for row, array in arrays_of(reader, name):
        check_present(reader, "data.time", name, array, row)
        if kind == "date":
            times.append(np.asarray(array.cast(pa.int32() if array.type.bit_width == 32 else pa.int64())))
    if kind == "number":
        times = [floats_N for _, floats_N in floats_of(reader, name)]
    return np.concatenate(times)


def _named(reader: TableReader, name: str) -> Codes:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(list(NAMES))
    index_K = np.array([*NAMES.values()], np.int8)
    parts = []
    for row, array in _texts(reader, name):
        check_present(reader, "data.split", name, array, row)
        found = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(array)), value_set=known)
        if found.null_count:
            odd = pc.index(found.is_null(), True).as_py()
            where, number = reader.where(row + odd)
            raise ConfigError(
                f"column {name!r} must say train, validation or test, but data row {number} says "
                f"{array[odd].as_py()!r}. Mend it, or give data.split shares.",
                where,
            )
        parts.append(index_K[np.asarray(found)])
    return np.concatenate(parts)


def _texts(reader: TableReader, name: str) -> Any:
    if reader.columns[name].kind in ("list", "other"):
        raise ConfigError(
            f"data.split: column {name!r} must hold texts, but it is of type {reader.columns[name].arrow}.",
            Where(reader.file),
        )
    return texts_of(reader, name)


def _check_groups(reader: TableReader, name: str, split_N: Codes) -> None:
    """Raises ConfigError when the user's own splits tear a group."""
    import numpy as np

    group_N = codes_of(reader, "data.group", name)
    split_G = np.empty(int(group_N.max()) + 1, np.int8)
    split_G[group_N] = split_N
    torn_N = split_G[group_N] != split_N
    if torn_N.any():
        where, number = reader.where(int(torn_N.argmax()))
        raise ConfigError(
            f"rows of equal {name!r} must be in one split, but those of data row {number} are in several. "
            "Mend the split column, or leave data.group out.",
            where,
        )

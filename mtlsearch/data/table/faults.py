"""What is wrong with a table's cells, said by file, line and data row.

Axes: N rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.csv_fault import LARGEST
from mtlsearch.data.table.kinds import as_floats, as_texts, is_text
from mtlsearch.data.table.reader import TableReader
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def check_named(named: Iterable[tuple[str, str]], names: Sequence[str], file: Path) -> None:
    """Raises ConfigError for the first column that the table does not have.

    Args:
        named: where the config names a column (`data.group`), and the column.
        names: the table's columns.
    """
    for key, name in named:
        if name not in names:
            nearest = get_close_matches(name, names, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            has = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
            raise ConfigError(
                f"{key} must name a column of the table, but {name!r} is none; it has {has}.{hint}", Where(file)
            )


def floats_of(reader: TableReader, name: str) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """First row and float64 [N] of every batch of a column, NaN where missing.

    Raises:
        ConfigError: a text is no number, or a number is beyond float32; which, and where.
    """
    for row, array in arrays_of(reader, name):
        floats_N = numbers(reader, name, array, row)
        check_finite(reader, name, floats_N, row)
        yield row, floats_N


def texts_of(reader: TableReader, name: str) -> Iterator[tuple[int, Any]]:
    """First row and strings [N] of every batch of a column."""
    for row, array in arrays_of(reader, name):
        yield row, as_texts(array)


def arrays_of(reader: TableReader, name: str) -> Iterator[tuple[int, Any]]:
    """First row and pyarrow Array [N] of every batch of a column."""
    row = 0
    for batch in reader.batches([name]):
        yield row, batch.column(0)
        row += batch.num_rows


def numbers(reader: TableReader, name: str, array: Any, row: int) -> NDArray[np.float64]:
    """`as_floats`, whose fault is a ConfigError. `row` is the first one's."""
    import pyarrow as pa

    try:
        return as_floats(array)
    except pa.ArrowInvalid as error:
        index, text = next(_no_numbers(array), (0, str(error)))
        raise fault(reader, row + index, f"column {name!r} must hold numbers", repr(text), "Mend it.") from error


def check_finite(reader: TableReader, name: str, floats_N: NDArray[np.float64], row: int) -> None:
    """Raises ConfigError for the first number that is infinite, or becomes so in float32."""
    import numpy as np

    infinite_N = np.abs(floats_N) > LARGEST
    if infinite_N.any():
        index = int(infinite_N.argmax())
        raise fault(
            reader,
            row + index,
            f"column {name!r} must be finite",
            f"{floats_N[index]:g}",
            "Leave a missing value empty, or drop the column (data.drop).",
        )


def check_each(
    reader: TableReader,
    name: str,
    floats_N: NDArray[np.float64],
    row: int,
    wrong: Callable[..., Any],
    must: str,
    do: str,
) -> None:
    """Raises ConfigError for the first number that is wrong; `wrong` maps float64 [N] to bool [N]."""
    wrong_N = wrong(floats_N)
    if wrong_N.any():
        index = int(wrong_N.argmax())
        raise fault(reader, row + index, f"column {name!r} must hold {must}", f"{floats_N[index]:g}", do)


def check_present(reader: TableReader, key: str, name: str, array: Any, row: int) -> None:
    """Raises ConfigError for the first null (or NaN), when a column must have a value everywhere."""
    import numpy as np
    import pyarrow.compute as pc

    missing_N = np.asarray(pc.is_null(array, nan_is_null=True))
    if missing_N.any():
        index = row + int(missing_N.argmax())
        raise fault(
            reader, index, f"{key} needs a value of {name!r} in every row", "none", "Fill it in, or remove the row."
        )


def fault(reader: TableReader, row: int, must: str, found: str, do: str) -> ConfigError:
    """What must hold, what this row (from 0, over all files) holds, what to do."""
    where, number = reader.where(row)
    return ConfigError(f"{must}, but data row {number} holds {found}. {do}", where)


def _no_numbers(array: Any) -> Iterator[tuple[int, str]]:
    """Texts that are no numbers, with their indices; plain Python, for it ends at the first."""
    texts = as_texts(array) if not is_text(array.type) else array
    for index, text in enumerate(texts.to_pylist()):
        try:
            float(text or 0)
        except ValueError:
            yield index, text

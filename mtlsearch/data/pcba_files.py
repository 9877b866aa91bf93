"""The three kinds of PCBA's files: bits, matrices with a column an assay, the assays' names.

Axes: N rows, F = 1,024 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.csv_file import read_csv
from mtlsearch.data.csv_stream import open_csv
from mtlsearch.data.pcba_tasks import NAMES
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats

NUM_BITS = 1024
LINE = 2 * NUM_BITS
"""Bytes: every bit is one character, with a comma or the line's end behind it."""
LINES_A_PART = 4096


def read_bits(path: Path, num_rows: int) -> Iterator[Floats]:
    """Some thousands of lines at a time, as float32 [F, N].

    A line is 1,024 single characters, so no CSV reader is needed, which would take ten times as long.

    Raises:
        ConfigError: a line is something else, or there are not `num_rows` of them.
    """
    import numpy as np

    read = 0
    with open_csv(path) as stream:
        _check_header(stream.readline(), path)
        while block := stream.read(LINE * LINES_A_PART):
            block += b"" if block.endswith(b"\n") else b"\n"  # as behind a last line without its end
            yield (bits_FN := _bits(block, path, read + 2)).astype(np.float32)
            read += bits_FN.shape[1]
    if read != num_rows:
        raise ConfigError(
            f"features and labels must have as many rows, but this file has {read:,} and the labels {num_rows:,}. "
            "Fetch both again.",
            Where(path),
        )


def read_matrix(path: Path, columns: Mapping[str, int], holds: Callable[[Any], Any], what: str) -> dict[str, Floats]:
    """Task → float32 [N], of a file whose columns are named by their numbers.

    Args:
        columns: task → number of its column.
        holds: whether each number of a column is what it must be.
        what: that, in words.
    """
    import numpy as np

    table = read_csv(path, {str(column): "number" for column in columns.values()}, missing=())
    matrix = {task: table.column(str(column)).to_numpy() for task, column in columns.items()}
    for task, value_N in matrix.items():
        right_N = holds(value_N)
        if not right_N.all():
            row = int(right_N.argmin())
            raise ConfigError(
                f"a number must be {what}, but here column {columns[task]} ({task}) holds {value_N[row]:g}.",
                Where(path, row + 2),
            )
    return {task: value_N.astype(np.float32) for task, value_N in matrix.items()}


def check_names(path: Path) -> None:
    """Raises ConfigError when tasks.csv does not name the assays that we know, in that order."""
    with open_csv(path) as stream:
        header, *names = stream.read().decode("utf-8", "replace").split()
    for line, (name, known) in enumerate(zip(names, NAMES, strict=False), 2):
        if name != known:
            raise ConfigError(f"assay {line - 2} must be {known}, but the file has {name}.", Where(path, line))
    if header != "0" or len(names) != len(NAMES):
        raise ConfigError(
            f"the file must have the line 0 and then {len(NAMES)} assays, but it begins with {header} and has "
            f"{len(names)} further lines.",
            Where(path),
        )


def _check_header(header: bytes, path: Path) -> None:
    found = header.count(b",") + 1
    if header.strip() != ",".join(map(str, range(NUM_BITS))).encode():
        raise ConfigError(
            f"the header must number {NUM_BITS} bits, 0 to {NUM_BITS - 1}, but it has {found} fields.", Where(path, 1)
        )


def _bits(block: bytes, path: Path, first_line: int) -> NDArray[Any]:
    """Whole lines → uint8 [F, N]."""
    import numpy as np

    if len(block) % LINE:
        raise _odd_line(block, path, first_line)
    text_NFC = np.frombuffer(block, np.uint8).reshape(-1, NUM_BITS, 2)
    bits_FN = np.ascontiguousarray(text_NFC[:, :, 0].T) - ord("0")  # less than "0" wraps round, to far above 1
    ends = text_NFC[:, :, 1]
    if (bits_FN > 1).any() or (ends[:, :-1] != ord(",")).any() or (ends[:, -1] != ord("\n")).any():
        raise _odd_line(block, path, first_line)
    return bits_FN


def _odd_line(block: bytes, path: Path, first_line: int) -> ConfigError:
    lines = enumerate(block.split(b"\n"), first_line)
    odd, text = next(
        (number, line) for number, line in lines if len(line) != LINE - 1 or set(line.split(b",")) - {b"0", b"1"}
    )
    strange = next((field for field in text.split(b",") if field not in (b"0", b"1")), None)
    found = repr(strange.decode("utf-8", "replace")) if strange is not None else f"{text.count(b',') + 1} fields"
    return ConfigError(f"a line must be {NUM_BITS} bits, each 0 or 1, but this one has {found}.", Where(path, odd))

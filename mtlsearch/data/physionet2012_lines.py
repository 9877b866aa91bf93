"""Lines `Time,Parameter,Value` of thousands of small texts, parsed many texts at once.

A parser that is started for each text spends its time on starting; so texts are strung together, and a line's text
is known by counting lines.

Axes: K lines of all texts, k of the texts that are strung together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.progress import report
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats

HEADER = b"Time,Parameter,Value"
TIME = re.compile(r"(\d\d):([0-5]\d)")
LAST_MINUTE = 48 * 60
LARGEST = 3.4e38
TEXTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Lines:
    """K lines, in the order of the texts."""

    stay_K: NDArray[np.int32]
    """Which text a line is of."""
    minute_K: NDArray[np.int16]
    parameter_K: NDArray[np.int8]
    """Index of its name."""
    value_K: Floats


def read_lines(paths: Sequence[Path], parameters: Sequence[str]) -> Lines:
    """All lines of the texts. Raises ConfigError for a malformed one, by file and line.

    Args:
        paths: the texts.
        parameters: names that a line may have.
    """
    import numpy as np

    blocks = []
    for first in range(0, len(paths), TEXTS_AT_ONCE):
        report("reading stays", first, len(paths), "stays")
        blocks.append(_block(paths[first : first + TEXTS_AT_ONCE], first, parameters))
    return Lines(
        np.concatenate([block.stay_K for block in blocks]),
        np.concatenate([block.minute_K for block in blocks]),
        np.concatenate([block.parameter_K for block in blocks]),
        np.concatenate([block.value_K for block in blocks]),
    )


def _block(paths: Sequence[Path], first: int, parameters: Sequence[str]) -> Lines:
    import numpy as np

    texts = [_body(path) for path in paths]
    num_lines = [text.count(b"\n") for text in texts]
    parsed = _parsed(b"".join(texts), parameters)
    if parsed is None or len(parsed[0]) != sum(num_lines):
        raise _fault(paths, parameters)
    return Lines(first + np.repeat(np.arange(len(paths), dtype=np.int32), num_lines), *parsed)


def _body(path: Path) -> bytes:
    """The text without its header, its last line ended."""
    header, _, body = path.read_bytes().partition(b"\n")
    if header.strip() != HEADER:
        raise ConfigError(
            f"the first line must be {HEADER.decode()}, but it is {header[:60].decode(errors='replace').strip()!r}. "
            "Is this a stay of the challenge?",
            Where(path, 1),
        )
    return body if body.endswith(b"\n") or not body else body + b"\n"


def _parsed(text: bytes, parameters: Sequence[str]) -> tuple[Any, Any, Any] | None:
    """Minute, parameter and value of each line; None when something is wrong with one of them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    string = pa.dictionary(pa.int32(), pa.string())
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            read_options=csv.ReadOptions(column_names=["time", "parameter", "value"], block_size=4 << 20),
            parse_options=csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={"time": string, "parameter": string, "value": pa.float64()}, null_values=[""]
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None  # the texts are then read one by one, for the reason
    time, parameter = table["time"].chunk(0), table["parameter"].chunk(0)
    minutes = [_minute(text) for text in time.dictionary.to_pylist()]
    known = pc.index_in(parameter.dictionary, pa.array(parameters, pa.string()))
    value_k = table["value"].to_numpy()
    wrong_k = ~(np.abs(value_k) <= LARGEST) & (np.asarray(known)[np.asarray(parameter.indices)] != parameters.index(""))
    if None in minutes or known.null_count or wrong_k.any():
        return None
    minute_k = np.array(minutes, np.int16)[np.asarray(time.indices)]
    return minute_k, np.asarray(known, np.int8)[np.asarray(parameter.indices)], value_k.astype(np.float32)


def _minute(text: str) -> int | None:
    found = TIME.fullmatch(text)
    minute = int(found[1]) * 60 + int(found[2]) if found else None
    return minute if minute is not None and minute <= LAST_MINUTE else None


def _fault(paths: Sequence[Path], parameters: Sequence[str]) -> ConfigError:
    """The first malformed line."""
    for path in paths:
        for number, line in enumerate(_body(path).split(b"\n")[:-1], start=2):
            fields = line.decode("utf-8", "replace").rstrip("\r").split(",")
            if fault := _line_fault(fields, parameters):
                return ConfigError(f"{fault} Mend or remove the line.", Where(path, number))
    return ConfigError(
        f"every line must be `HH:MM,Parameter,Value`, but one in {paths[0].name} … {paths[-1].name} is not. Find it.",
        Where(paths[0].parent),
    )


def _line_fault(fields: Sequence[str], parameters: Sequence[str]) -> str | None:
    if len(fields) != 3:
        return f"a line must have 3 fields, time, parameter and value, but this one has {len(fields)}."
    time, parameter, value = fields
    if _minute(time) is None:
        return f"the time must be HH:MM from 00:00 to 48:00, but it is {time!r}."
    if parameter not in parameters:
        return f"the parameter must be one of {', '.join(filter(None, parameters))}, but it is {parameter!r}."
    if (parameter or value) and not _is_number(value):
        return f"the value must be a finite number, but it is {value!r}."
    return None


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST
    except ValueError:
        return False

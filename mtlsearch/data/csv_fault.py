"""Where a CSV file is wrong. pyarrow does not say the line, so a file that it refused is reread plainly."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mtlsearch.data.csv_stream import open_csv
from mtlsearch.errors import ConfigError, Where

LARGEST = 3.4e38
"""float32 ends here."""


def check_header(path: Path, columns: Mapping[str, str]) -> None:
    """Raises ConfigError when the first line does not name each of the columns once."""
    with open_csv(path) as stream:
        header = next(csv.reader([stream.readline().decode("utf-8-sig", "replace")]), [])
    absent = [name for name in columns if name not in header]
    if absent:
        nearest = get_close_matches(absent[0], header, n=1)
        hint = f" Is it {nearest[0]!r}?" if nearest else ""
        found = ", ".join(header[:30]) or "nothing"
        raise ConfigError(
            f"the header must name {', '.join(map(repr, absent))}, but it has {found}.{hint}", Where(path, 1)
        )
    if twice := [name for name in columns if header.count(name) > 1]:
        raise ConfigError(f"a column is named once, but the header has {twice[0]!r} twice. Rename one.", Where(path, 1))


def conversion_fault(
    path: Path,
    columns: Mapping[str, str],
    names: Sequence[str] | None,
    missing: Sequence[str],
    otherwise: str,
    delimiter: str = ",",
) -> ConfigError:
    """The first thing that is wrong, by line and column; `otherwise` when a plain reader finds nothing."""
    rows = plain_rows(path, delimiter)
    header = list(names) if names is not None else next(rows)[1]
    for line, fields in rows:
        if len(fields) != len(header):
            if any("\n" in field for field in fields):
                check_quotes(path, delimiter)
            return _ragged(path, line, len(header), len(fields))
        for name, field in zip(header, fields, strict=True):
            if columns.get(name) == "number" and not _is_number(field.strip(), missing):
                return _no_number(path, line, name, field)
    check_quotes(path, delimiter)
    return ConfigError(f"the file must be a CSV table, but: {otherwise}", Where(path))


def check_quotes(path: Path, delimiter: str = ",") -> None:
    """Raises ConfigError for a quote that is not closed: it swallows all lines up to the next one, or to the end."""
    with open_csv(path) as stream:
        reader, line = csv.reader(_lines(path, stream), delimiter=delimiter, strict=True), 0
        try:
            for _ in reader:
                line = reader.line_num
        except csv.Error as error:
            raise ConfigError(
                f"a quote must be closed where its cell ends, but in the row that begins here: {error}. Mend the row.",
                Where(path, line + 1),
            ) from error


def check_ranges(numbers: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]], path: Path) -> None:
    """Raises ConfigError when a column leaves its bounds or misses a value."""
    for name, (low, high) in bounds.items():
        column_N = numbers[name]
        wrong_N = ~((column_N >= low) & (column_N <= high))  # so that NaN is wrong
        if wrong_N.any():
            row = int(wrong_N.argmax())
            raise ConfigError(
                f"column {name!r} must lie in {low:g}..{high:g}, "
                f"but data row {row + 1} has {column_N[row]:g}. Mend or remove the row.",
                Where(path),
            )


def plain_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Line where each row ends, and its fields, the header's first; empty lines are skipped, as pyarrow does.

    Raises:
        ConfigError: damaged, or not UTF-8, by line.
    """
    with open_csv(path) as stream:
        reader = csv.reader(_lines(path, stream), delimiter=delimiter)
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
        except csv.Error:
            return  # a stray NUL, say: then pyarrow's own words are the message


def line_of(path: Path, row: int, delimiter: str = ",") -> int | None:
    """Line where a data row (from 0, below a header) ends; None when a plain reader does not get there."""
    rows = (line for line, _ in plain_rows(path, delimiter))
    return next(islice(rows, row + 1, None), None)


def _lines(path: Path, stream: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            odd = error.object[error.start]
            raise ConfigError(
                f"the text must be UTF-8, but this line has the byte 0x{odd:02x}. Convert the file, for example with "
                "`iconv -f latin1 -t utf-8`.",
                Where(path, number),
            ) from error


def _is_number(text: str, missing: Sequence[str]) -> bool:
    if text in missing:
        return True
    try:
        return abs(float(text)) <= LARGEST
    except ValueError:
        return False


def _ragged(path: Path, line: int, expected: int, found: int) -> ConfigError:
    return ConfigError(
        f"every line must have {expected} fields, but this one has {found}. Mend or remove it.",
        Where(path, line),
    )


def _no_number(path: Path, line: int, name: str, field: str) -> ConfigError:
    return ConfigError(
        f"column {name!r} must hold finite numbers, but here stands {field!r}. Mend it, or leave the field empty.",
        Where(path, line),
    )

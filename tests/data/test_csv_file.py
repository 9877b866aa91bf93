"""Reading CSV files, and what a person is told about each way in which one can be wrong."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mtlsearch.data.csv_file import read_csv
from mtlsearch.data.csv_stream import find_csv
from mtlsearch.errors import ConfigError

COLUMNS = {"n": "number", "t": "text"}
GOOD = b"t,other,n\n a ,x,1\n\nNA,y,NA\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def fault(path: Path) -> str:
    """The message, without the folder."""
    with pytest.raises(ConfigError) as error:
        read_csv(path, COLUMNS)
    return str(error.value).replace(f"{path.parent}/", "")


def write_archive(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, GOOD)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zip"])
def test_plain_gzipped_and_zipped_files_are_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table.csv{suffix}"
    if suffix == ".zip":
        write_archive(path, "table.csv")
    else:
        path.write_bytes(gzip.compress(GOOD) if suffix else GOOD)
    assert find_csv(tmp_path, "table.csv") == path

    table = read_csv(path, COLUMNS)

    assert np.array_equal(table.column("n").to_numpy(), [1, np.nan], equal_nan=True)
    assert table.column("t").to_pylist() == ["a", "NA"], "a text is trimmed, and NA is a text like any other"


def test_a_missing_column_is_named_with_the_nearest_one(path: Path) -> None:
    path.write_bytes(b"t,N\na,1\n")
    assert fault(path) == "table.csv:1: the header must name 'n', but it has t, N."
    path.write_bytes(b"t,nn\na,1\n")
    assert fault(path).endswith("but it has t, nn. Is it 'nn'?")


def test_a_column_that_is_there_twice(path: Path) -> None:
    path.write_bytes(b"t,n,n\na,1,2\n")
    assert fault(path) == "table.csv:1: a column is named once, but the header has 'n' twice. Rename one."


def test_a_ragged_line_is_named_though_empty_lines_come_before(path: Path) -> None:
    path.write_bytes(GOOD + b"b,1\n")
    assert fault(path) == "table.csv:5: every line must have 3 fields, but this one has 2. Mend or remove it."


@pytest.mark.parametrize("text", ["many", "inf", "1e39"])
def test_what_is_no_finite_number_is_named_by_line_and_column(path: Path, text: str) -> None:
    path.write_bytes(GOOD + f"b,z,{text}\n".encode())
    assert fault(path) == (
        f"table.csv:5: column 'n' must hold finite numbers, but here stands '{text}'. "
        "Mend it, or leave the field empty."
    )


def test_a_file_that_is_not_utf8(path: Path) -> None:
    path.write_bytes(GOOD + b"caf\xe9,z,1\n")
    assert fault(path).startswith("table.csv:5: the text must be UTF-8, but this line has the byte 0xe9.")


@pytest.mark.parametrize("text", [b"", b"\n", b"t,n\n"])
def test_a_file_without_rows(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    assert fault(path).startswith("table.csv:")


@pytest.mark.parametrize("keep", [5, 30, -1])
def test_a_gzip_file_that_is_cut_short(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(GOOD * 1000)[:keep])
    assert fault(path).startswith("table.csv.gz: a compressed file must be whole")


def test_a_gz_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(GOOD)
    assert fault(path).startswith("table.csv.gz: a compressed file must be whole")


def test_an_archive_that_is_cut_short_or_holds_several_files(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "table.csv.zip", "a.csv", "b.csv")
    assert "it holds 2 files where one CSV is expected" in fault(whole)
    whole.write_bytes(whole.read_bytes()[:40])
    assert fault(whole).startswith("table.csv.zip: a compressed file must be whole")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert fault(tmp_path).startswith(f"{tmp_path.name}: the file must be readable, but: ")

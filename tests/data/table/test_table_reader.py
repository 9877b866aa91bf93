"""A table is the same whichever file it is in; what is wrong with a file is said by its name."""

import datetime
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.reader import open_table
from mtlsearch.errors import ConfigError

N = 20
WHEN = [datetime.datetime(2024, 1, 1 + i, 12) for i in range(N)]
COLUMNS = {
    "n": [None if i == 3 else i / 2 for i in range(N)],
    "t": [None if i == 4 else f"a,{i}" for i in range(N)],
    "f": [None if i == 5 else i % 2 == 0 for i in range(N)],
    "d": pa.array(WHEN, pa.timestamp("s")),
}
NAMES = ["table.parquet", "table.feather", "table.arrow", "table.csv", "table.csv.gz", "table.csv.zip", "table.tsv"]


def opening(path: Path | str, **options: object) -> str:
    with pytest.raises(ConfigError) as error:
        open_table(str(path), **options)
    return str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_gives_the_same_columns(write_table, name: str) -> None:
    with open_table(str(write_table(COLUMNS, name))) as reader:
        assert {name: each.kind for name, each in reader.columns.items()} == {
            "n": "number",
            "t": "text",
            "f": "flag",
            "d": "date",
        }
        assert reader.num_rows == N
        batches = list(reader.batches(["d", "n"], 6))
        assert max(batch.num_rows for batch in batches) <= 6
        assert batches[0].schema.names == ["d", "n"], "in the order that was asked for"
        days = np.concatenate([as_floats(batch.column(0)) for batch in batches])
        assert_array_equal(days, 19723.5 + np.arange(N))
        assert_array_equal(as_floats(reader.column("n")), np.array(COLUMNS["n"], float))
        assert_array_equal(as_floats(reader.column("f")), np.array(COLUMNS["f"], float))
        assert as_texts(reader.column("t")).to_pylist() == COLUMNS["t"]
        assert len(list(reader.batches(["n"], 6))) == len(batches), "and again from the start"


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_folder_or_a_glob_is_one_table(write_table, tmp_path: Path, name: str) -> None:
    write_table({"x": [1, 2], "t": ["a", "b"]}, name)
    write_table({"x": [2.5], "t": ["c"]}, name.replace("a", "b", 1))
    (tmp_path / "README.txt").write_text("no table")
    (tmp_path / "_SUCCESS.csv").write_text("")

    for path in (tmp_path, tmp_path / f"?{name[1:]}"):
        with open_table(str(path)) as reader:
            assert as_floats(reader.column("x")).tolist() == [1, 2, 2.5]
            where, number = reader.where(2)
            assert (where.file.name, number) == (f"b{name[1:]}", 1)


def test_the_spool_of_a_csv_file_goes_with_its_reader(write_table) -> None:
    path = str(write_table(COLUMNS, "table.csv"))
    with open_table(path) as reader:
        assert reader.spool is not None
        assert reader.spool.exists()
    assert not reader.spool.exists()
    reader = open_table(path)
    spool = reader.spool
    del reader
    assert not spool.exists()


def test_a_file_or_folder_that_is_not_there_or_empty(tmp_path: Path) -> None:
    assert "the file must exist, but there is none" in opening(tmp_path / "no.csv")
    assert "the glob must match files" in opening(tmp_path / "*.csv")
    assert "the folder must hold tables" in opening(tmp_path)


def test_an_unknown_extension_and_files_of_several_kinds(write_table, tmp_path: Path) -> None:
    odd = tmp_path / "table.xlsx"
    odd.write_bytes(b"")
    assert opening(odd).startswith(f"{odd}: a table's extension must be one of .parquet, .csv")
    write_table(COLUMNS, "a.csv")
    write_table(COLUMNS, "b.parquet")
    assert "b.parquet: the files of a table must be of one kind" in opening(tmp_path)


def read_wholly(path: Path) -> None:
    with open_table(str(path)) as reader:
        for _ in reader.batches(list(reader.columns)):
            pass


# A stream that ends between two batches cannot be told from a whole one; a file can.
@pytest.mark.parametrize("name", ["table.parquet", "table.feather", "table.arrow"])
@pytest.mark.parametrize("keep", [0, 3, 100, 0.7])
def test_a_file_that_is_cut_short(write_table, name: str, keep: float) -> None:
    path = write_table(COLUMNS, name)
    text = path.read_bytes()
    path.write_bytes(text[: int(keep * len(text)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(ConfigError, match=f"{name}: the file must be whole and readable"):
        read_wholly(path)


def test_a_parquet_file_that_is_damaged_inside(write_table) -> None:
    path = write_table(COLUMNS)
    path.write_bytes(path.read_bytes()[:4] + b"\xff" * 300 + path.read_bytes()[304:])
    with pytest.raises(ConfigError, match=r"table.parquet: the file must be whole and readable"):
        read_wholly(path)


def test_a_table_without_rows(write_table) -> None:
    for name in ("empty.parquet", "empty.csv"):
        path = write_table({"x": pa.array([], pa.float64())}, name)
        assert opening(path) == f"{path}: the table must have rows, but it has none."


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,a\n1,2,3\n")
    assert "a column is named once, but the file has 'a' twice" in opening(path)
    arrow = tmp_path / "table.arrow"
    with pa.ipc.new_file(arrow, pa.schema([("a", pa.int8()), ("a", pa.int8())])):
        pass
    assert "the file has 'a' twice" in opening(arrow)


SUFFIXES = [".csv", ".parquet", ".feather", ".arrow"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_with_other_columns_than_the_first(write_table, tmp_path: Path, suffix: str) -> None:
    write_table({"x": [1]}, f"a{suffix}")
    write_table({"x": [1], "z": [2]}, f"b{suffix}")
    assert f"b{suffix}" in opening(tmp_path)
    assert f"the files of a table must have the same columns, but this one has 'z' unlike a{suffix}" in opening(
        tmp_path
    )
    assert "this one has 'z'" in opening(tmp_path, optional=["x"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_told_by_their_names_not_by_their_order(write_table, tmp_path: Path, suffix: str) -> None:
    write_table({"x": [1, 2], "t": ["a", "b"]}, f"a{suffix}")
    write_table({"t": ["c"], "x": [2.5]}, f"b{suffix}")
    with open_table(str(tmp_path)) as reader:
        assert as_floats(reader.column("x")).tolist() == [1, 2, 2.5]
        assert as_texts(reader.column("t")).to_pylist() == ["a", "b", "c"]
        assert reader.notes == ()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_optional_column_is_null_in_files_that_lack_it(write_table, tmp_path: Path, suffix: str) -> None:
    write_table({"x": [1, 2, 3], "y": [True, False, True]}, f"a{suffix}")
    write_table({"z": ["p", "q"], "x": [4, 5]}, f"b{suffix}")
    write_table({"x": [6], "y": [False]}, f"c{suffix}")
    with open_table(str(tmp_path), optional=["y", "z"]) as reader:
        assert list(reader.columns) == ["x", "y", "z"]
        assert as_texts(reader.column("z")).to_pylist() == [None, None, None, "p", "q", None]
        assert_array_equal(as_floats(reader.column("y")), [1, 0, 1, np.nan, np.nan, 0])
        batches = list(reader.batches(["z", "x"], 2))
        assert max(batch.num_rows for batch in batches) == 2
        assert [x for batch in batches for x in as_floats(batch.column(1))] == [1, 2, 3, 4, 5, 6]
        assert [z for batch in batches for z in as_texts(batch.column(0)).to_pylist()].count(None) == 4
        assert reader.notes == (
            f"Labels 'y' are missing in b{suffix}: no such column.",
            f"Labels 'z' are missing in a{suffix}, c{suffix}: no such column.",
        )
    assert "but this one lacks 'y' unlike" in opening(tmp_path, optional=["z"])


def test_a_column_may_be_wider_in_another_file_but_not_of_another_kind(write_table, tmp_path: Path) -> None:
    write_table({"x": pa.array([None], pa.null()), "d": pa.array([1], pa.date32())}, "a.parquet")
    write_table({"x": [1], "d": pa.array([WHEN[0]], pa.timestamp("ns"))}, "b.parquet")
    write_table({"x": [1.5], "d": pa.array([WHEN[0]], pa.timestamp("ms"))}, "c.parquet")
    with open_table(str(tmp_path)) as reader:
        assert_array_equal(as_floats(reader.column("x")), [np.nan, 1, 1.5])
        assert as_floats(reader.column("d")).tolist() == [1, 19723.5, 19723.5]
    write_table({"x": ["one"], "d": pa.array([1], pa.date32())}, "d.parquet")
    assert "d.parquet: column 'x' must be of one type in all files, but here it is string" in opening(tmp_path)


@pytest.mark.parametrize(
    ("array", "floats"),
    [
        (pa.array([7, None], pa.uint64()), [7, np.nan]),
        (pa.array(["7.25", None]).cast(pa.decimal128(9, 2)), [7.25, np.nan]),
        (pa.array([2, None], pa.date32()), [2, np.nan]),
        (pa.array([43_200, None], pa.time32("s")), [0.5, np.nan]),
        (pa.array([86_400_000_000, None], pa.timestamp("us", "UTC")), [1, np.nan]),
        (pa.array([" 1e3", None], pa.large_string()), [1000, np.nan]),
        (pa.array([None, None], pa.null()), [np.nan, np.nan]),
    ],
)
def test_what_counts_as_a_number(array: pa.Array, floats: list[float]) -> None:
    assert_array_equal(as_floats(array), floats)
    assert_array_equal(as_floats(pa.chunked_array([array])), floats)


def test_texts_of_dictionaries_and_numbers() -> None:
    assert as_texts(pa.array(["a", None]).dictionary_encode()).to_pylist() == ["a", None]
    assert as_texts(pa.array([1, None]).dictionary_encode()).to_pylist() == ["1", None]
    assert as_texts(pa.array([1.5, np.nan])).to_pylist() == ["1.5", None]


def test_a_gzip_file_that_is_cut_short(write_table) -> None:
    path = write_table(COLUMNS, "table.csv.gz")
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) * 2000)[:-20])
    assert "table.csv.gz: a compressed file must be whole" in opening(path)

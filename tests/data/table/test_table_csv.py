"""CSV files: how types are found though a file is read in blocks, and what is told about a bad one."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.data.table import csv_spool
from mtlsearch.data.table.kinds import as_floats
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files have several."""
    monkeypatch.setattr(csv_spool, "BLOCK", 100)


def kinds(path: Path, **options: object) -> dict[str, str]:
    with open_table(str(path), **options) as reader:
        return {name: column.kind for name, column in reader.columns.items()}


def opened(path: Path, **options: object) -> TableReader:
    return open_table(str(path), **options)


def fault(path: Path, **options: object) -> str:
    with pytest.raises(ConfigError) as error:
        open_table(str(path), **options)
    return str(error.value).replace(f"{path.parent}/", "")


def test_types_are_guessed_from_the_values(path: Path) -> None:
    path.write_text("n,f,d,z,t,u\n 1,true,2024-01-01,2024-01-01T10:00:00Z,x,\nNA,?,2024-01-01 10:00,,7,\n")
    assert kinds(path) == {"n": "number", "f": "flag", "d": "date", "z": "date", "t": "text", "u": "number"}


def test_a_type_that_shows_late_or_does_not_hold(path: Path) -> None:
    lines = [f"{i},,{i},true" for i in range(200)]
    path.write_text("\n".join(["number,late,text,flag", *lines, "200,2024-01-01,x,7.5", "201,,y,", ""]))
    with opened(path) as reader:
        assert [column.kind for column in reader.columns.values()] == ["number", "date", "text", "text"]
        assert as_floats(reader.column("number")).tolist() == list(range(202))
        assert reader.column("text").to_pylist()[-4:] == ["198", "199", "x", "y"]
        assert reader.column("flag").to_pylist()[-3:] == ["true", "7.5", None]


def test_texts_that_are_nearly_all_numbers_are_worth_a_note(path: Path) -> None:
    path.write_text("\n".join(["age,b", *(f"{i},1" for i in range(50)), '"", 1', "many,2", "more,3", ""]))
    with opened(path) as reader:
        (note,) = reader.notes
        assert note.startswith("'age' is taken as text, though 96.2 % of its values are numbers: line 53 of table.csv")
        assert "holds 'many'" in note
    assert opened(path, overrides={"age": "text"}).notes == (), "meant so"
    assert opened(path, missing=["many", "more"]).notes == ()
    assert fault(path, overrides={"age": "number"}) == (
        "table.csv:53: column 'age' must hold numbers, but here stands 'many'. Mend it, or add it to data.missing."
    )


def test_a_code_with_leading_zeros_is_kept_as_text_on_demand(path: Path) -> None:
    path.write_text("zip\n02134\n10001\n")
    assert opened(path, overrides={"zip": "text"}).column("zip").to_pylist() == ["02134", "10001"]


def test_what_stands_for_a_missing_value(path: Path) -> None:
    path.write_text("n,t\n1,NA\n-999,-999\n NA ,x\n,\n")
    with opened(path, missing=["-999", "NA"]) as reader:
        assert_array_equal(as_floats(reader.column("n")), [1, np.nan, np.nan, np.nan])
        assert reader.column("t").to_pylist() == [None, None, "x", None]
    path.write_text("n,t\n1,NA\nNA, \n2,x\n")
    with opened(path) as reader:
        assert reader.columns["n"].kind == "number"
        assert reader.column("t").to_pylist() == ["NA", None, "x"], "in a text it is a word like any other"


def test_semicolons_quotes_and_lines_within_them(path: Path) -> None:
    path.write_text('\ufeffa;b\n"x\ny";1\n\n"p;""q""";2\n', encoding="utf-8")
    with opened(path) as reader:
        assert reader.column("a").to_pylist() == ["x\ny", 'p;"q"']
        assert reader.where(1)[0].line == 5


def test_a_ragged_line(path: Path) -> None:
    path.write_text("a,b\n" + "1,2\n" * 60 + "3\n")
    assert fault(path) == "table.csv:62: every line must have 2 fields, but this one has 1. Mend or remove it."


@pytest.mark.parametrize("rows", [5, 500])
def test_a_quote_that_is_not_closed_does_not_swallow_the_rest(path: Path, rows: int) -> None:
    path.write_text("a,b\n1,2\n" + '3,"x\n' + "1,2\n" * rows)
    assert fault(path).startswith("table.csv:3: a quote must be closed where its cell ends")
    path.write_text("a,b\n1,2\n" + '"x\n' + "1,2\n" * rows)
    assert fault(path).startswith("table.csv:3: a quote must be closed where its cell ends")
    path.write_text('a,b\n1,2\n3,"x\ny"\n')
    assert opened(path).column("b").to_pylist() == ["2", "x\ny"]


def test_a_byte_that_is_not_utf8(path: Path) -> None:
    path.write_bytes(b"a,b\n" + b"1,2\n" * 5000 + b"caf\xe9,3\n")
    assert fault(path).startswith("table.csv:5002: the text must be UTF-8, but this line has the byte 0xe9.")
    path.write_bytes("a,b\n1,2\n".encode("utf-16"))
    assert fault(path).startswith("table.csv:1: the text must be UTF-8")


def test_an_empty_file_and_one_of_a_header_only(path: Path) -> None:
    path.write_text("")
    assert fault(path) == "table.csv: the file must have a header and rows, but it is empty."
    for text in ("a,b\n", "a,b"):
        path.write_text(text)
        assert fault(path) == "table.csv: the table must have rows, but it has none."


def test_nothing_is_left_behind_by_a_bad_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spools = path.parent / "spools"
    spools.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    path.write_text("a,b\n" + "1,2\n" * 60 + "3\n")
    fault(path)
    assert list(spools.iterdir()) == []

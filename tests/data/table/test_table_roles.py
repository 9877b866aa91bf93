"""Which columns become inputs, as what, and why others do not."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.config import Encoding
from mtlsearch.data.columns import Part
from mtlsearch.data.table import distinct
from mtlsearch.data.table.distinct import Distinct

N = 40
BASE = {"y": [i % 2 for i in range(N)], "x": np.arange(N) * 1.5}


def whole(columns) -> Part:
    (part,) = columns.parts()
    return part


def left_out(columns) -> str:
    return next((note for note in columns.notes if note.startswith("No inputs")), "")


def test_numbers_dates_flags_and_categories(write_table, read_table) -> None:
    path = write_table(
        BASE
        | {
            "flag": [i % 3 == 0 for i in range(N)],
            "day": [datetime.date(1970, 1, 2 + i % 3) for i in range(N)],
            "town": [("Bonn", None, "Kiel")[i % 3] for i in range(N)],
            "ward": pa.array([f"w{i % 2}" for i in range(N)]).dictionary_encode(),
        }
    )
    columns = read_table(path, ("y", "binary"))
    part = whole(columns)
    assert list(part.numeric) == ["x", "flag", "day"]
    assert part.numeric["flag"][:3].tolist() == [1, 0, 0]
    assert part.numeric["day"][:3].tolist() == [1, 2, 3]
    assert part.categorical["town"].to_pylist()[:3] == ["Bonn", None, "Kiel"]
    assert part.categorical["ward"].to_pylist()[:2] == ["w0", "w1"]
    assert columns.notes[0] == (
        "Inputs: numbers (2): x, flag; dates as days since 1970 (1): day; categories (2): town, ward."
    )


def test_why_a_column_is_no_input(write_table, read_table) -> None:
    path = write_table(
        BASE
        | {
            "const": [3] * N,
            "word": ["same"] * N,
            "none": pa.nulls(N, pa.string()),
            "nan": [np.nan] * N,
            "patient_id": range(N),
            "RecordID": range(9, 9 + N),
            "ident": [f"p{i}" for i in range(N)],
            "raw": pa.array([b"x"] * N),
            "nested": [{"a": 1}] * N,
            "gone": BASE["x"],
            "sort": BASE["x"],
            "who": [i // 4 for i in range(N)],
        }
    )
    columns = read_table(
        path, ("y", "binary"), drop=["gone"], time="sort", group="who", columns={"word": {"type": "auto"}}
    )
    assert list(whole(columns).numeric) == ["x"]
    assert left_out(columns) == (
        "No inputs: dropped on request: gone; time: sort; group: who; label: y; type binary: raw; "
        "type struct<a: int64>: nested; always 3: const; always 'same': word; no value: none, nan; "
        "identifier: patient_id, RecordID, ident."
    )


def test_what_only_looks_like_an_identifier_or_a_constant(write_table, read_table) -> None:
    path = write_table(
        BASE
        | {
            "visit_id": [i // 2 for i in range(N)],
            "item_id": [i + 0.5 for i in range(N)],
            "count": range(N),
            "seen": [1 if i % 2 else None for i in range(N)],
            "tag": ["x" if i % 2 else None for i in range(N)],
        }
    )
    part = whole(read_table(path, ("y", "binary")))
    assert list(part.numeric) == ["x", "visit_id", "item_id", "count", "seen"]
    assert list(part.categorical) == ["tag"]


def test_free_text(write_table, read_table) -> None:
    num = 3000
    path = write_table(
        {
            "x": np.arange(num) / 2,
            "y": [i % 2 for i in range(num)],
            "text": [f"t{i * 2 // 3}" for i in range(num)],
            "code": [f"c{i * 2 // 5}" for i in range(num)],
        }
    )
    columns = read_table(path, ("y", "binary"))
    assert list(whole(columns).categorical) == ["code"], "1,200 categories in 3,000 rows are still some"
    assert "free text, 2,000 different values: text" in left_out(columns)


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_user_knows_better(write_table, read_table, name: str) -> None:
    path = write_table(
        BASE
        | {
            "zip": [f"0{1000 + i % 7}" for i in range(N)],
            "level": [str(i % 5) for i in range(N)],
            "user_id": range(N),
            "when": [datetime.date(2024, 1, 1 + i % 20) for i in range(N)],
            "z": [1.5, *range(N - 1)],
        },
        name,
    )
    columns = read_table(
        path,
        ("y", "binary"),
        time="when",
        columns={
            "zip": "category",
            "level": "number",
            "user_id": {"encode": "none"},
            "when": "number",
            "z": "drop",
            "x": {"encode": {"kind": "quantile"}},
        },
    )
    part = whole(columns)
    assert list(part.numeric) == ["x", "level", "user_id", "when"]
    assert part.numeric["level"][:3].tolist() == [0, 1, 2]
    assert part.categorical["zip"].to_pylist()[0] == "01000"
    assert columns.encodings["user_id"] == Encoding(kind="none")
    assert columns.encodings["x"] == Encoding(kind="quantile")


def test_a_number_may_be_a_category(write_table, read_table) -> None:
    path = write_table(BASE | {"ward": [i % 3 for i in range(N)]})
    part = whole(read_table(path, ("y", "binary"), columns={"ward": "category"}))
    assert part.categorical["ward"].to_pylist()[:3] == ["0", "1", "2"]


def test_what_a_column_cannot_be(write_table, fault) -> None:
    path = write_table(BASE | {"list": [[1]] * N, "word": ["one"] * N})
    assert "data.columns: 'list' cannot be a number, for it is of type list" in fault(path, columns={"list": "number"})
    assert "column 'word' must hold numbers, but data row 1 holds 'one'" in fault(path, columns={"word": "number"})


def test_an_infinite_input(write_table, fault) -> None:
    path = write_table(BASE | {"speed": [*range(N - 1), -np.inf]}, "table.csv")
    assert "table.csv:41: column 'speed' must be finite, but data row 40 holds -inf" in fault(path)
    assert "data row 40 holds 1e+39" in fault(write_table(BASE | {"speed": [*range(N - 1), 1e39]}))


def test_a_table_without_inputs(write_table, fault) -> None:
    message = fault(write_table({"y": BASE["y"], "id": range(N)}))
    assert (
        "the table must have a column that is an input, but none is left. No inputs: label: y; identifier: id."
        in message
    )


@pytest.mark.parametrize("key", ["group", "time", "split", "drop", "columns", "weight", "column"])
def test_a_column_that_the_table_does_not_have(write_table, fault, key: str) -> None:
    path = write_table(BASE | {"patient": range(N)})
    options = {key: {"drop": ["patint"], "columns": {"patint": "drop"}}.get(key, "patint")}
    if key in ("weight", "column"):
        message = fault(path, {"column": "y", "kind": "binary"} | options)
    else:
        message = fault(path, **options)
    assert message.startswith("table.parquet: data.")
    assert (
        "must name a column of the table, but 'patint' is none; it has y, x, patient. Did you mean 'patient'?"
        in message
    )


def test_different_values_are_counted_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "CAP", 100)
    values = Distinct()
    for start in range(0, 100_000, 1000):
        values.add(pa.array([str(i) for i in range(start, start + 1000)]))
    assert 100 <= len(values) < 70_000
    assert values.rows == values.present == len(values)
    assert_array_equal(values.first, "0")

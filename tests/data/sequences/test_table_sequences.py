"""The user's own sequences: long and nested, every row a step or binned, labels of both kinds, what is refused."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from pyarrow import csv, parquet

from mtlsearch.config import TableConfig
from mtlsearch.data.columns import Columns, Part, StepPart
from mtlsearch.data.table import Table
from mtlsearch.errors import ConfigError

NAN = np.nan
IDS = ("p", "q", "r", "s")
SPLIT = {"p": "train", "q": "train", "r": "validation", "s": "test"}

WriteTable = Callable[..., Path]


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Writes columns to a Parquet or CSV file of the temporary folder."""

    def write(columns: Mapping[str, Sequence[Any] | pa.Array], name: str = "table.parquet") -> Path:
        path, table = tmp_path / name, pa.table(dict(columns))
        if path.suffix == ".csv":
            csv.write_csv(table, path)
        else:
            parquet.write_table(table, path)
        return path

    return write


def read(path: Path, sequence: Mapping[str, Any], *tasks: Mapping[str, Any], **options: Any) -> Columns:
    given = list(tasks) or [{"column": "y", "kind": "binary"}]
    values = {"path": str(path), "tasks": given, "split": "part", "sequence": sequence, **options}
    source = Table(TableConfig.model_validate(values))
    return source.read(source.tasks)


def fault(path: Path, sequence: Mapping[str, Any], *tasks: Mapping[str, Any], **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        read(path, sequence, *tasks, **options)
    return str(error.value)


def one(columns: Columns) -> tuple[Part, StepPart]:
    (part,) = columns.parts()
    assert part.steps is not None
    return part, part.steps


def long(**changed: Any) -> dict[str, Any]:
    """Four patients in no order; p has three rows, q two, r and s one."""
    who = ["q", "p", "p", "r", "p", "q", "s"]
    columns = {
        "who": who,
        "hour": [5.0, 2.0, 0.0, 1.0, 0.5, 3.0, 0.0],
        "hr": [75.0, 62.0, 60.0, 81.0, NAN, 73.0, 90.0],
        "ward": ["b", "c", "a", "a", None, "a", "d"],
        "sex": [None, "f", "f", "m", "f", "m", "f"],
        "y": [1, 0, 0, 1, 0, 1, 0],
        "part": [SPLIT[each] for each in who],
    }
    return {name: value for name, value in (columns | changed).items() if value is not None}


ROWS = {"id": "who", "time": "hour", "static": ["sex", "y"]}


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_every_row_is_a_step_in_order_of_time(write_table: WriteTable, name: str) -> None:
    columns = read(write_table(long(), name), ROWS)
    part, steps = one(columns)  # q, p, r, s: in order of first appearance
    assert steps.length_N.tolist() == [2, 3, 1, 1]
    assert_array_equal(steps.numeric["hr"], [73, 75, 60, NAN, 62, 81, 90])
    assert steps.categorical["ward"].to_pylist() == ["a", "b", "a", None, "c", "a", "d"]
    assert part.categorical["sex"].to_pylist() == ["m", "f", "m", "f"]
    assert_array_equal(part.labels["y"], [1, 0, 1, 0])
    assert not columns.tasks[0].per_step
    assert (tuple(part.numeric), tuple(steps.numeric), steps.labels) == ((), ("hr", "hour since the step before"), {})
    assert_array_equal(steps.numeric["hour since the step before"], [0, 2, 0, 0.5, 1.5, 0, 0])
    assert {split: rows.tolist() for split, rows in columns.rows.items()} == {
        "train": [0, 1],
        "validation": [2],
        "test": [3],
    }


def test_longer_sequences_lose_their_first_steps(write_table: WriteTable) -> None:
    _, steps = one(read(write_table(long()), ROWS | {"max_steps": 2}))
    assert steps.length_N.tolist() == [2, 2, 1, 1]
    assert_array_equal(steps.numeric["hr"], [73, 75, NAN, 62, 81, 90])


def test_rows_are_gathered_into_steps(write_table: WriteTable) -> None:
    columns = read(write_table(long()), ROWS | {"step": 1})
    _, steps = one(columns)
    assert steps.length_N.tolist() == [3, 3, 1, 1]  # q from hour 3 to 5, p from 0 to 2
    assert_array_equal(steps.numeric["hr last"], [73, 73, 75, 60, 60, 62, 81, 90])
    assert_array_equal(steps.numeric["hr measured"], [1, 0, 1, 1, 0, 1, 1, 1])
    assert steps.categorical["ward"].to_pylist() == ["a", "a", "b", "a", "a", "c", "a", "d"]
    assert {name: each.indicator for name, each in columns.encodings.items()} == {
        "hr last": True,
        "hr mean": False,
        "hr measured": False,
    }
    _, zero = one(read(write_table(long()), ROWS | {"step": 1, "start": "zero"}))
    assert zero.length_N.tolist() == [6, 3, 2, 1]
    assert_array_equal(zero.numeric["hr last"][:6], [NAN, NAN, NAN, 73, 73, 75])


def test_categories_are_carried_over_cut_off_steps(write_table: WriteTable) -> None:
    _, steps = one(
        read(write_table(long(ward=["b", None, "a", "a", None, "a", "d"])), ROWS | {"step": 1, "max_steps": 1})
    )
    assert steps.length_N.tolist() == [1, 1, 1, 1]
    assert steps.categorical["ward"].to_pylist() == ["b", "a", "a", "d"]


def test_dates_count_seconds(write_table: WriteTable) -> None:
    start = datetime.datetime(2024, 5, 1)
    moments = [start + datetime.timedelta(hours=hour) for hour in long()["hour"]]
    _, steps = one(read(write_table(long(hour=moments)), ROWS | {"step": 3600}))
    assert steps.length_N.tolist() == [3, 3, 1, 1]
    assert_array_equal(steps.numeric["hr last"], [73, 73, 75, 60, 60, 62, 81, 90])


def test_a_label_of_a_step_column_is_one_a_step(write_table: WriteTable) -> None:
    path = write_table(long(y=[1, 0, 1, 1, 0, 0, 0]))
    columns = read(path, ROWS | {"static": ["sex"]})
    assert columns.tasks[0].per_step
    part, steps = one(columns)
    assert part.labels == {}
    assert_array_equal(steps.labels["y"], [0, 1, 1, 0, 0, 1, 0])
    _, binned = one(read(path, ROWS | {"static": ["sex"], "step": 1}))
    assert_array_equal(binned.labels["y"], [0, NAN, 1, 0, NAN, 0, 1, 0])  # the last within the step, not carried


def test_multilabel_labels_a_step(write_table: WriteTable) -> None:
    task = {"name": "both", "columns": ["y", "z"], "kind": "multilabel"}
    path = write_table(long(z=[0, 1, 0, 1, 0, 0, 1]))
    _, steps = one(read(path, ROWS | {"static": ["sex"], "step": 1}, task))
    assert_array_equal(steps.labels["both"][:3], [[1, 0], [NAN, NAN], [1, 0]])


def test_a_row_a_measurement(write_table: WriteTable) -> None:
    columns = {
        "who": ["p", "p", "p", "q", "q", "r", "s"],
        "hour": [0, 0, 2, 0, 1, 0, 0],
        "item": ["hr", "ph", "hr", "hr", "unused", "ph", "hr"],
        "number": [60.0, 7.4, 64.0, 70.0, 5.0, 7.1, NAN],
        "y": [0, 0, 0, 1, 1, 0, 1],
        "part": [SPLIT[who] for who in "pppqqrs"],
    }
    sequence = {"id": "who", "time": "hour", "step": 1, "variable": "item", "value": "number", "static": ["y"]}
    found = read(write_table(columns), sequence | {"summaries": True}, drop=["unused"], columns={"ph": "drop"})
    part, steps = one(found)
    assert steps.length_N.tolist() == [3, 2, 1, 1]
    assert tuple(steps.numeric) == ("hr last", "hr mean", "hr measured")
    assert_array_equal(steps.numeric["hr last"], [60, 60, 64, 70, 70, NAN, NAN])
    assert_array_equal(part.numeric["hr count over all"], [2, 1, 0, 0])
    assert_array_equal(part.numeric["hr mean over all"], [62, 70, NAN, NAN])


def test_a_variable_is_encoded_as_data_columns_says(write_table: WriteTable) -> None:
    columns = read(write_table(long()), ROWS | {"step": 1, "summaries": True}, columns={"hr": {"encode": "log"}})
    assert {name: each.kind for name, each in columns.encodings.items() if each.kind != "log"} == {
        "hr measured": "none"
    }
    assert len(columns.encodings) == 3 + 5


def test_a_file_of_sequences(write_table: WriteTable) -> None:
    rows = {name: value for name, value in long().items() if name not in ("sex", "y", "part")}
    static = {
        "who": ["s", "r", "q", "p", "other"],
        "age": [40.0, 30.0, 20.0, 10.0, 99.0],
        "y": [1, 0, 1, 0, 1],
        "part": ["test", "validation", "train", "train", "train"],
    }
    path, other = write_table(rows), write_table(static, "static.csv")
    columns = read(path, {"id": "who", "time": "hour", "static_path": str(other)})
    part, _ = one(columns)
    assert_array_equal(part.numeric["age"], [20, 10, 30, 40])
    assert_array_equal(part.labels["y"], [1, 0, 0, 1])
    assert "1 rows of static.csv belong to no sequence: they are left out." in columns.notes
    twice = write_table({name: [*value, value[0]] for name, value in static.items()}, "twice.csv")
    found = fault(path, {"id": "who", "time": "hour", "static_path": str(twice)})
    assert "twice.csv:7: data.sequence.static_path needs one row a sequence, but data row 6 holds 's' again" in found
    strangers = write_table(static | {"who": list("abcde")}, "strangers.csv")
    found = fault(path, {"id": "who", "time": "hour", "static_path": str(strangers)})
    assert "no value is in both; the table has 'q', this file 'a'" in found
    found = fault(write_table(long()), {"id": "who", "time": "hour", "static_path": str(other)})
    assert "but 'y' is in both" in found


def test_a_sequence_that_the_file_lacks_misses_its_columns(write_table: WriteTable) -> None:
    rows = {name: value for name, value in long().items() if name != "sex"}
    other = write_table({"who": ["s", "r", "q"], "age": [40.0, 30.0, 20.0]}, "static.parquet")
    columns = read(write_table(rows), {"id": "who", "static": ["y"], "static_path": str(other)})
    part, _ = one(columns)
    assert_array_equal(part.numeric["age"], [20, NAN, 30, 40])
    assert "1 sequences have no row in static.parquet: its columns are missing there." in columns.notes


def nested(**changed: Any) -> dict[str, Any]:
    columns = {
        "hr": [[60.0, None, 62.0], [73.0, 75.0], [81.0], [90.0]],
        "ward": [["a", None, "c"], ["a", "b"], ["a"], ["d"]],
        "age": [10.0, 20.0, 30.0, 40.0],
        "y": [0, 1, 1, 0],
        "part": list(SPLIT.values()),
    }
    return columns | changed


def test_a_row_is_a_sequence_where_columns_are_lists(write_table: WriteTable) -> None:
    part, steps = one(read(write_table(nested()), {}))
    assert steps.length_N.tolist() == [3, 2, 1, 1]
    assert_array_equal(steps.numeric["hr"], [60, NAN, 62, 73, 75, 81, 90])
    assert steps.categorical["ward"].to_pylist() == ["a", None, "c", "a", "b", "a", "d"]
    assert_array_equal(part.numeric["age"], [10, 20, 30, 40])
    assert_array_equal(part.labels["y"], [0, 1, 1, 0])


def test_nested_steps_are_ordered_and_gathered_by_a_list_of_times(write_table: WriteTable) -> None:
    path = write_table(nested(hour=[[2.0, 0.5, 0.0], [3.0, 5.0], [1.0], [0.0]]))
    _, steps = one(read(path, {"time": "hour"}))
    assert_array_equal(steps.numeric["hr"], [62, NAN, 60, 73, 75, 81, 90])
    _, binned = one(read(path, {"time": "hour", "step": 1}))
    assert_array_equal(binned.numeric["hr last"], [62, 62, 60, 73, 73, 75, 81, 90])


def test_a_list_label_is_one_a_step_unless_it_lists_labels(write_table: WriteTable) -> None:
    path = write_table(nested(y=[[0, 1, 1], [1, 0], [1], [0]], tags=[["u"], ["u", "v"], [], ["v"]]))
    tasks = ({"column": "y", "kind": "binary"}, {"column": "tags", "kind": "multilabel"})
    columns = read(path, {}, *tasks)
    part, steps = one(columns)
    assert [task.per_step for task in columns.tasks] == [True, False]
    assert_array_equal(steps.labels["y"], [0, 1, 1, 1, 0, 1, 0])
    assert part.labels["tags"].shape == (4, 2)


def test_lists_of_a_row_are_of_one_length(write_table: WriteTable) -> None:
    found = fault(write_table(nested(ward=[["a", None, "c"], ["a"], ["a"], ["d"]])), {})
    assert "of one length, 2 as in column 'hr', but data row 2 holds 1 values in 'ward'" in found
    found = fault(write_table(nested(hr=[[60.0], [], [1.0], [2.0]])), {})
    assert "column 'hr' must have a step in every row, but data row 2 holds an empty list" in found
    found = fault(write_table({"hr": [1.0], "y": [0]}), {})
    assert "sequences without data.sequence.id must have list columns" in found


def test_summaries_do_not_tell_the_future(write_table: WriteTable) -> None:
    path = write_table(long())
    found = fault(path, ROWS | {"static": ["sex"], "summaries": True})
    assert "'y' has a label a step: a summary of the whole sequence would tell it the future" in found
    found = fault(path, ROWS | {"summaries": True}, {"column": "y", "kind": "binary", "at_step": 1})
    assert "'y' is predicted at step 1" in found


def test_what_a_row_must_have(write_table: WriteTable) -> None:
    found = fault(write_table(long(who=["q", "p", "p", "r", None, "q", "s"]), "t.csv"), ROWS)
    assert "t.csv:6: data.sequence.id needs a value of 'who' in every row, but data row 5 holds none" in found
    found = fault(write_table(long(hour=[5.0, None, 0.0, 1.0, 0.5, 3.0, 0.0]), "t.csv"), ROWS)
    assert "t.csv:3: data.sequence.time needs a value of 'hour' in every row, but data row 2 holds none" in found
    found = fault(write_table(long(hour=["five", "2", "0", "1", "0", "3", "0"])), ROWS)
    assert "data.sequence.time must be a column of numbers, dates or timestamps, but 'hour' is text" in found


@pytest.mark.parametrize(("key", "options"), [("part", {}), ("clinic", {"group": "clinic"})])
def test_a_sequence_is_of_one_split_and_one_group(write_table: WriteTable, key: str, options: dict[str, str]) -> None:
    columns = long(clinic=["one", "two", "two", "three", "two", "one", "four"])
    columns[key] = ["train", "train", "train", "validation", "test", "train", "test"]
    found = fault(write_table(columns), ROWS, **options)
    assert f"column {key!r} must be the same in all rows of a sequence, but sequence 'p' has 'train'" in found


def test_groups_and_times_are_of_sequences(write_table: WriteTable) -> None:
    path = write_table(long(clinic=["one", "two", "two", "three", "two", "one", "four"]))
    shares = {"train": 0.5, "validation": 0.25, "test": 0.25}
    columns = read(path, ROWS, group="clinic", split=shares, drop=["part"])
    assert sorted(np.concatenate(list(columns.rows.values()))) == [0, 1, 2, 3]
    columns = read(path, ROWS, time="hour", split=shares, drop=["part", "clinic"])
    assert columns.rows["test"].tolist() == [0]  # q, whose first row is the latest


def test_a_wrong_unit_of_time_is_found(write_table: WriteTable) -> None:
    found = fault(write_table(long(hour=[5e6, 2.0, 0.0, 1.0, 0.5, 3.0, 0.0])), ROWS | {"step": 1})
    assert "must have at most 100,000 steps, but 'q' lasts 5e+06" in found
    read(write_table(long(hour=[5e6, 2.0, 0.0, 1.0, 0.5, 3.0, 0.0])), ROWS | {"step": 1, "max_steps": 10})


def test_columns_that_are_not_there_are_named(write_table: WriteTable) -> None:
    path = write_table(long())
    assert "data.sequence.id must name a column of the table, but 'wo' is none" in fault(path, ROWS | {"id": "wo"})
    assert "'se' is none" in fault(path, ROWS | {"static": ["se", "y"]})
    assert "task 'z' must name a column" in fault(path, ROWS, {"column": "z", "kind": "binary"})
    assert "data.columns must name a column" in fault(path, ROWS, columns={"hx": "number"})
    assert "a step must have a column that is an input" in fault(path, ROWS, drop=["hr", "ward"])


def test_weights_are_of_sequences(write_table: WriteTable) -> None:
    path = write_table(long(w=[1.0, 2.0, 2.0, 3.0, 2.0, 1.0, 4.0]))
    task = {"column": "y", "kind": "binary", "weight": "w"}
    part, steps = one(read(path, ROWS | {"static": ["sex", "y", "w"]}, task))
    assert_array_equal(part.weights["y"], [1, 2, 3, 4])
    assert "w" not in steps.numeric
    assert "`weight` belongs to one label a sequence" in fault(path, ROWS | {"static": ["sex"]}, task)
    assert "the weight must have one value a sequence" in fault(path, ROWS, task)


def test_labels_of_sequences_may_be_in_different_files(write_table: WriteTable, tmp_path: Path) -> None:
    """Long and nested: a file that lacks a label column has no such labels, at none of its steps."""
    (tmp_path / "long").mkdir()
    (tmp_path / "nested").mkdir()
    tasks = [{"column": "y", "kind": "binary"}, {"column": "sick", "kind": "binary"}]
    write_table(
        {"who": ["p", "p", "r"], "x": [1, 2, 3], "part": ["train", "train", "valid"], "y": [1, 1, 0]}, "long/a.csv"
    )
    write_table({"who": ["q", "s"], "x": [4, 5], "part": ["train", "test"], "sick": [0, 1]}, "long/b.csv")
    part, steps = one(read(tmp_path / "long", {"id": "who", "static": ["y"]}, *tasks))
    assert_array_equal(part.labels["y"], [1, 0, NAN, NAN])
    assert_array_equal(steps.labels["sick"], [NAN, NAN, NAN, 0, 1])

    write_table({"sick": [[0, 1], [1]], "x": [[1, 2], [3]], "part": ["train", "valid"]}, "nested/a.parquet")
    write_table({"x": [[4, 5, 6], [7]], "part": ["train", "test"], "y": [1, 0]}, "nested/b.parquet")
    part, steps = one(read(tmp_path / "nested", {}, *tasks))
    assert_array_equal(part.labels["y"], [NAN, NAN, 1, 0])
    assert_array_equal(steps.labels["sick"], [0, 1, 1, NAN, NAN, NAN, NAN])


@pytest.mark.parametrize("step", [None, 1.0])
def test_labels_a_step_keep_all_their_digits(write_table: WriteTable, step: float | None) -> None:
    far = [1.7e9 + i / 8 for i in range(7)]
    columns = long(far=far)
    sequence = {"id": "who", "time": "hour", "static": ["sex", "y"]} | ({"step": step} if step else {})
    _, steps = one(read(write_table(columns), sequence, {"column": "far", "kind": "regression"}))
    found = steps.labels["far"]
    assert set(found[~np.isnan(found)]) <= set(far)
    assert (~np.isnan(found)).sum() >= 6

"""Labels of every kind, and what is told of those that do not fit."""

import datetime
import re

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.config import TableConfig
from mtlsearch.data.table import source

N = 40
X = np.arange(N) * 1.5


def labels(columns, name: str = "y") -> np.ndarray:
    return np.concatenate([part.labels[name] for part in columns.parts()])


def turns(*values: object) -> list[object]:
    """The values again and again; the first row's is missing."""
    return [None, *(values[i % len(values)] for i in range(1, N))]


BINARY = [
    (turns(0, 1), None),
    (turns(0.0, 1.0), None),
    (turns(False, True), None),
    (turns("0", "1"), None),
    (turns("False", "true"), None),
    (turns("no", "yes"), "yes"),
    (turns("1", "2"), 2),
    (turns(1, 2), 2),
    (turns(1, 2), "2"),
    (turns(False, True), True),
    (turns("False", "True"), True),
]


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
@pytest.mark.parametrize(("values", "positive"), BINARY)
def test_two_values(write_table, read_table, name: str, values: list[object], positive: object) -> None:
    path = write_table({"x": X, "y": values}, name)
    columns = read_table(path, {"column": "y", "kind": "binary", "positive": positive})
    assert_array_equal(labels(columns), [np.nan, *(i % 2 for i in range(1, N))])


@pytest.mark.parametrize(
    ("values", "positive", "found"),
    [
        (turns("no", "yes"), None, r"it has 'no' and 'yes'. Say which counts as 1, for example `positive: yes`."),
        (turns(1, 2), None, r"it has '1' and '2'. Say which counts as 1"),
        (turns("no", "yes"), "Yes", r"`positive` is 'Yes', and it has 'no' and 'yes'. Change `positive`."),
        (turns(1, 2), "two", r"`positive` is 'two', and it has '1' and '2'"),
        (turns(0, 1, 2), None, r"it has more, such as 0, 1, 2. Is the task multiclass?"),
        (turns("a", "b", "c"), None, r"it has more, such as 'a', 'b', 'c'. Is the task multiclass?"),
        (turns(0, 0.5, 1), None, r"it has more, such as 0, 0.5, 1. Is the task regression?"),
        (
            turns(0, -1),
            None,
            r"table.parquet: column 'y' must hold classes, which must be 0 and 1, but data row 2 holds",
        ),
        (turns([0], [1]), None, r"it is of type list<element: int64>"),
    ],
)
def test_what_is_not_two_values(write_table, fault, values: list[object], positive: object, found: str) -> None:
    path = write_table({"x": X, "y": values})
    assert re.search(
        re.sub(r"([?.()])", r"\\\1", found), fault(path, {"column": "y", "kind": "binary", "positive": positive})
    )


def test_a_label_of_minus_one_is_named_by_its_line(write_table, fault) -> None:
    path = write_table({"x": X, "y": [1, 0, -1, *[1] * (N - 3)]}, "table.csv")
    assert fault(path) == (
        "table.csv:4: column 'y' must hold classes, which must be 0 and 1, but data row 3 holds -1. "
        "Use 0 and 1, and leave missing labels empty."
    )
    assert "must be 0, 1, 2, …, but data row 3 holds -1" in fault(path, ("y", "multiclass"))


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (turns(2, 0, 10), ("0", "2", "10")),
        (turns("2", "0", "10"), ("0", "2", "10")),
        (turns("b", "a", "10"), ("10", "a", "b")),
        (turns(True, False, True), ("0", "1")),
        (pa.array(turns("b", "a", "c")).dictionary_encode(), ("a", "b", "c")),
    ],
)
def test_classes_are_sorted_over_the_whole_table(write_table, read_table, values, classes: tuple[str, ...]) -> None:
    columns = read_table(write_table({"x": X, "y": values}), ("y", "multiclass"))
    assert columns.tasks[0].classes == classes
    index = labels(columns)
    assert np.isnan(index[0])
    texts = [str(int(v)) if isinstance(v, bool) else str(v) for v in pa.array(values).to_pylist()[1:]]
    assert [classes[int(i)] for i in index[1:]] == texts


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (turns(0, 1.5), "must be whole, but data row 2 holds 1.5. Is the task regression?"),
        (turns(3), "must have at least two classes, but it has only '3'"),
        ([f"c{i}" for i in range(2000)], "must have at most 1,000 classes"),
        (list(range(2000)), "must have at most 1,000 classes"),
        (turns(datetime.date(2024, 1, 1)), "it is of type date32"),
    ],
)
def test_what_are_no_classes(write_table, fault, values: list[object], found: str) -> None:
    assert found in fault(write_table({"x": np.arange(len(values)) / 2, "y": values}), ("y", "multiclass"))


def test_a_class_that_no_training_row_has_is_worth_a_note(write_table, read_table) -> None:
    split = ["train"] * 30 + ["validation"] * 5 + ["test"] * 5
    path = write_table({"x": X, "s": split, "y": [i % 3 for i in range(N - 1)] + [7]})
    notes = read_table(path, ("y", "multiclass"), split="s").notes
    assert "Task 'y': no training row has '7', so it cannot be learnt." in notes


def test_several_labels_a_row_in_a_column_each(write_table, read_table, fault) -> None:
    path = write_table({"x": X, "a": turns(0, 1), "b": turns("true", "false"), "c": turns(5, 6)})
    task = {"columns": ["a", "b"], "kind": "multilabel", "name": "ab"}
    columns = read_table(path, task)
    assert columns.tasks[0].classes == ("a", "b")
    assert_array_equal(labels(columns, "ab")[:3], [[np.nan, np.nan], [1, 0], [0, 1]])
    assert "task 'ab': column 'c' must have two values, but it has '5' and '6'" in fault(
        path, task | {"columns": ["a", "c"]}
    )


@pytest.mark.parametrize("arrow", [pa.list_(pa.string()), pa.large_list(pa.string())])
def test_several_labels_a_row_by_name(write_table, read_table, arrow: pa.DataType) -> None:
    path = write_table({"x": X, "y": pa.array(turns(["b", "a"], [], ["c"]), arrow)})
    columns = read_table(path, ("y", "multilabel"))
    assert columns.tasks[0].classes == ("a", "b", "c")
    assert_array_equal(labels(columns)[:4], [[np.nan] * 3, [0, 0, 0], [0, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize("values", [turns([1, 0], [1, 1]), turns(["b", "a"], [], ["c"])])
def test_lists_of_labels_come_in_any_parts(write_table, read_table, monkeypatch, values: list[object]) -> None:
    path = write_table({"x": X, "y": values}, "table.feather")
    at_once = labels(read_table(path, ("y", "multilabel")))
    monkeypatch.setattr(source, "MOST_ROWS", 3)
    assert_array_equal(labels(read_table(path, ("y", "multilabel"))), at_once)


@pytest.mark.parametrize("arrow", [pa.list_(pa.int8()), pa.list_(pa.bool_()), pa.list_(pa.float32(), 2)])
def test_several_labels_a_row_as_lists_of_one_length(write_table, read_table, arrow: pa.DataType) -> None:
    lists = pa.array(turns([False, True], [True, True])).cast(arrow)
    columns = read_table(write_table({"x": X, "y": lists}), ("y", "multilabel"))
    assert columns.tasks[0].classes == ("0", "1")
    assert_array_equal(labels(columns)[:3], [[np.nan] * 2, [1, 1], [0, 1]])


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (turns([0, 1], [1]), "but data row 3 holds 2 where others hold 1"),
        (turns([0, 17]), "but data row 2 holds 17. If these are codes of labels, write them as texts."),
        (turns(["a"], ["b", None]), "but data row 2 holds a null in its list"),
        (turns([]), "it is of type list<element: null>"),
        (turns("a;b"), "must hold lists of names, or of 0 and 1, but it is of type string"),
    ],
)
def test_what_are_no_lists_of_labels(write_table, fault, values: list[object], found: str) -> None:
    assert found in fault(write_table({"x": X, "y": values}), ("y", "multilabel"))


def test_a_number_as_it_is_and_an_infinite_one(write_table, read_table, fault) -> None:
    path = write_table({"x": X, "y": turns(1.5, 2)}, "table.csv")
    assert_array_equal(labels(read_table(path, ("y", "regression")))[:3], [np.nan, 2, 1.5])
    path = write_table({"x": X, "y": [1.0] * 30 + [np.inf] + [2] * 9}, "table.csv")
    assert fault(path, ("y", "regression")) == (
        "table.csv:32: column 'y' must be finite, but data row 31 holds inf. "
        "Leave a missing value empty, or drop the column (data.drop)."
    )
    path = write_table({"x": X, "y": [*map(str, range(39)), "tall"]})
    assert "table.parquet: column 'y' must hold numbers, but data row 40 holds 'tall'" in fault(
        path, ("y", "regression")
    )


def test_weights(write_table, read_table, fault) -> None:
    task = {"column": "y", "kind": "binary", "weight": "w"}
    columns = read_table(write_table({"x": X, "y": turns(0, 1), "w": [0.5] * N}), task)
    (part,) = columns.parts()
    assert_array_equal(part.weights["y"], [0.5] * N)
    assert list(part.numeric) == ["x"], "a weight is no input"
    path = write_table({"x": X, "y": turns(0, 1), "w": [1] * 39 + [None]})
    assert "task 'y' needs a value of 'w' in every row, but data row 40 holds none" in fault(path, task)
    path = write_table({"x": X, "y": turns(0, 1), "w": [1] * 39 + [-1]})
    assert "column 'w' must hold weights of at least 0, but data row 40 holds -1" in fault(path, task)


def test_what_a_config_of_tasks_must_be() -> None:
    one = {"column": "y", "kind": "binary"}
    with pytest.raises(ValueError, match="'y' is there twice"):
        TableConfig.model_validate({"path": "t.csv", "tasks": [one, one]})
    with pytest.raises(ValueError, match="the metric of a binary task must be one of auroc"):
        TableConfig.model_validate({"path": "t.csv", "tasks": [one | {"metric": "rmse"}]})
    with pytest.raises(ValueError, match="`at_step` belongs to a task of sequences"):
        TableConfig.model_validate({"path": "t.csv", "tasks": [one | {"at_step": 3}]})
    columns = {"x": {"type": "category", "encode": "log"}}
    with pytest.raises(ValueError, match="`encode` belongs to a number, but the type is category"):
        TableConfig.model_validate({"path": "t.csv", "tasks": [one], "columns": columns})

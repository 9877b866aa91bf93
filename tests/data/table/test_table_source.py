"""The source `table`, from its config to what a store is made of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.config import Task
from mtlsearch.config.table import TableConfig
from mtlsearch.data.conversion import fit_schema
from mtlsearch.data.table import Table
from mtlsearch.errors import ConfigError

N = 200
COLUMNS = {
    "age": [None if i % 9 == 0 else i % 80 for i in range(N)],
    "town": [("Bonn", "Kiel", "Ulm")[i % 3] for i in range(N)],
    "dead": [i % 2 for i in range(N)],
    "stay": np.arange(N) / 4,
    "ward": [f"w{i % 5}" for i in range(N)],
}
TASKS = [
    {"column": "dead", "kind": "binary", "metric": "average_precision"},
    {"column": "stay", "kind": "regression", "name": "length_of_stay", "unit": "days"},
    {"column": "ward", "kind": "multiclass"},
]


def source(path: Path, **options: object) -> Table:
    return Table(TableConfig.model_validate({"path": str(path), "tasks": TASKS, **options}))


def test_tasks_are_known_before_the_table_is_read(tmp_path: Path) -> None:
    assert source(tmp_path / "none.csv").tasks == (
        Task(name="dead", kind="binary", metric="average_precision"),
        Task(name="length_of_stay", kind="regression", unit="days"),
        Task(name="ward", kind="multiclass"),
    )


def test_its_files_are_those_of_the_folder_by_name(write_table, tmp_path: Path) -> None:
    second, first = write_table(COLUMNS, "b.csv"), write_table(COLUMNS, "a.csv")
    assert source(tmp_path).files() == (first, second)


@pytest.mark.parametrize("name", ["table.parquet", "table.csv", "table.feather"])
def test_a_store_is_fitted_on_it(write_table, name: str) -> None:
    table = source(write_table(COLUMNS, name))
    schema = fit_schema(table.read(table.tasks), "table", "digest", table.files()[0])
    assert schema.numeric_names == ("age", "age is missing")
    assert schema.categorical_names == ("town",)
    assert schema.tasks[2].classes == ("w0", "w1", "w2", "w3", "w4")
    assert [split.num_rows for split in schema.splits] == [140, 30, 30]
    assert [split.frequencies[0] for split in schema.splits] == [(70,), (15,), (15,)]


def test_some_of_the_tasks_have_the_split_of_all(write_table) -> None:
    table = source(write_table(COLUMNS))
    every, some = table.read(table.tasks), table.read(table.tasks[1:])
    assert [task.name for task in some.tasks] == ["length_of_stay", "ward"]
    assert_array_equal(every.rows["test"], some.rows["test"])
    (part,) = some.parts()
    assert list(part.numeric) == ["age"], "what another task predicts is no input either"


def test_a_bad_table_leaves_no_spool_behind(write_table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    table = source(write_table(COLUMNS, "table.csv"), group="house")
    with pytest.raises(ConfigError, match="'house' is none"):
        table.read(table.tasks)
    assert list(spools.iterdir()) == []

    table = source(write_table(COLUMNS, "table.csv"))
    columns = table.read(table.tasks)
    assert len(list(columns.parts())) == len(list(columns.parts())) == 1
    del columns
    assert list(spools.iterdir()) == []

"""The source `table`, from its config to what a store is made of."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.config import Task
from mtlsearch.config.table import TableConfig
from mtlsearch.data import open_store
from mtlsearch.data.columns import SPLITS
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
    return Table(TableConfig.model_validate({"path": str(path), "tasks": TASKS} | options))


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


def of_files(write_table, suffix: str, **changed: object) -> None:
    """Three files: each task's labels in one of them, inputs and a split in all."""
    part = ["train", "valid", "test"]
    every = {"age": np.arange(60) % 7, "part": [part[i % 3] for i in range(60)]} | changed
    stay = np.arange(60) / 4
    write_table(every | {"dead": [i // 3 % 2 for i in range(60)]}, f"a{suffix}")
    write_table({"stay": stay} | every, f"b{suffix}")
    write_table(every | {"ward": [f"w{i // 3 % 2}" for i in range(60)]}, f"c{suffix}")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".feather"])
def test_labels_of_tasks_may_be_in_different_files(write_table, tmp_path: Path, suffix: str) -> None:
    of_files(write_table, suffix)
    config = source(tmp_path, split="part").config
    store = open_store(config, tmp_path / "cache")
    for name in SPLITS:
        assert store.schema.counts(name).missing == (40, 40, 40)
        labels = store.split(name).labels_NL
        for task in range(3):
            here = slice(20 * task, 20 * task + 20)
            assert np.isnan(labels[:, task]).sum() == 40
            assert not np.isnan(labels[here, task]).any()
    assert f"Labels 'dead' are missing in b{suffix}, c{suffix}: no such column." in store.schema.notes


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("role", ["group", "time", "split", "weight"])
def test_what_a_row_needs_must_be_in_every_file(write_table, tmp_path: Path, suffix: str, role: str) -> None:
    """Also where it is a label too: without it, a row has no place."""
    of_files(write_table, suffix)
    tasks = [*TASKS[:2], TASKS[2] | ({"weight": "stay"} if role == "weight" else {})]
    options = {"tasks": tasks} if role == "weight" else {role: "stay"}
    with pytest.raises(ConfigError, match=f"b{suffix}.*this one has 'stay' unlike a{suffix}"):
        source(tmp_path, **options).read(())


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_labels_that_are_in_no_file_are_an_error(write_table, tmp_path: Path, suffix: str) -> None:
    of_files(write_table, suffix)
    table = source(tmp_path, split="part", tasks=[*TASKS, {"column": "waard", "kind": "binary"}])
    with pytest.raises(ConfigError, match=r"data.tasks\[3\] must name a column .* Did you mean 'ward'"):
        table.read(table.tasks)


def test_labels_far_from_0_keep_their_digits(write_table, tmp_path: Path) -> None:
    """A Unix time has ten digits, float32 seven: what is stored is the distance from the mean."""
    seconds = 1.7e9 + np.arange(N) % 37
    tasks = [{"column": "stay", "kind": "regression"}, {"column": "seconds", "kind": "regression"}]
    for name in ("table.parquet", "table.csv"):
        config = source(write_table(COLUMNS | {"seconds": seconds}, name), tasks=tasks).config
        store = open_store(config, tmp_path / "cache")
        assert store.schema.centred == ("seconds",)
        assert store.schema.label_offset("stay") == 0
        assert store.schema.label_std[1] == pytest.approx(np.std(np.arange(N) % 37), rel=0.05)
        split = store.split("test")
        found = split.labels_NL.astype(np.float64) + np.array([0, store.schema.label_offset("seconds")])
        expected = np.stack([COLUMNS["stay"], seconds], axis=1)[split.row_N]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


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

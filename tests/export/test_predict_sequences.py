"""Sequences predicted from raw rows, nested, long, binned and as measurements: the trial's own test scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from pyarrow import parquet

import mtlsearch as package
from mtlsearch.data import open_store
from mtlsearch.errors import ConfigError
from mtlsearch.export.model_folder import ModelFolder
from mtlsearch.train.metrics import score_tasks

pytestmark = pytest.mark.slow

SPACE = "{model: {kind: mmoe, hidden: 4, num_experts: 2, expert: {kind: gru}}, batch_size: 16}"
NUM = 60
PARTS = [("train", "train", "train", "validation", "test")[i % 5] for i in range(NUM)]
TASKS = "[{column: died, kind: binary}, {column: load, kind: regression%s}, {column: state, kind: multiclass}]"


def stays() -> pa.Table:
    """A row a stay: lists of hours, pulses and wards; a label a stay, one at its third step, and one a step."""
    draw = np.random.default_rng(1)
    lengths = draw.integers(2, 7, NUM)
    pulse = [draw.normal(80 + 10 * (i % 2), 5, n) for i, n in enumerate(lengths)]
    return pa.table(
        {
            "stay": np.arange(100, 100 + NUM),
            "hour": [np.sort(draw.uniform(0, 10, n)).tolist() for n in lengths],
            "pulse": [[None if draw.random() < 0.2 else float(v) for v in each] for each in pulse],
            "ward": [draw.choice(["a", "b"], n).tolist() for n in lengths],
            "age": draw.uniform(20, 90, NUM),
            "sex": draw.choice(["f", "m"], NUM),
            "died": pa.array([int(each.mean() > 85) for each in pulse]),
            "load": [float(each.sum()) for each in pulse],
            "state": [["calm" if v < 85 else "wild" for v in each] for each in pulse],
            "part": PARTS,
        }
    )


def moments(table: pa.Table) -> pa.Table:
    """The same with a row a moment, shuffled: what a stay has once stands in each of its rows."""
    lists = ["hour", "pulse", "ward", "state"]
    once = [name for name in table.column_names if name not in lists]
    parent = pc.list_parent_indices(table["hour"])
    columns = {name: table[name].take(parent) for name in once} | {name: pc.list_flatten(table[name]) for name in lists}
    rows = pa.table(columns)
    return rows.take(np.random.default_rng(2).permutation(rows.num_rows))


def searched(search: Any, folder: Path, name: str, tables: dict[str, pa.Table], rest: str) -> Any:
    """A search over the tables, of which the first is the data."""
    for file, table in tables.items():
        parquet.write_table(table, folder / f"{file}.parquet")
    first = next(iter(tables))
    data = f"{{source: table, path: {folder / first}.parquet, split: part, {rest.replace('HERE', str(folder))}}}"
    return search(name, data, SPACE)


@pytest.fixture(scope="session")
def nested(search, tmp_path_factory) -> Any:
    """A row a stay."""
    rest = f"tasks: {TASKS % ', at_step: 2'}, drop: [stay], sequence: {{time: hour}}"
    return searched(search, tmp_path_factory.mktemp("nested"), "nested", {"stays": stays()}, rest)


@pytest.fixture(scope="session")
def binned(search, tmp_path_factory) -> Any:
    """A row a moment, gathered into steps of two hours, with summaries."""
    rest = (
        f"tasks: {TASKS.split(', {column: state')[0] % ''}], drop: [state], "
        "sequence: {id: stay, time: hour, step: 2, start: zero, static: [age, sex, died, load], summaries: true}"
    )
    return searched(search, tmp_path_factory.mktemp("binned"), "binned", {"moments": moments(stays())}, rest)


@pytest.fixture(scope="session")
def measured(search, tmp_path_factory) -> Any:
    """A row a measurement, and what a stay has once in a second file."""
    rest = (
        f"tasks: {TASKS.split(', {column: state')[0] % ''}], "
        "sequence: {id: stay, time: hour, step: 2, variable: what, value: value, static_path: HERE/once.parquet}"
    )
    folder = tmp_path_factory.mktemp("measured")
    return searched(search, folder, "measured", {"measures": measures(), "once": once()}, rest)


def measures() -> pa.Table:
    rows = moments(stays())
    named = {"pulse": rows["pulse"], "level": pc.multiply(rows["hour"], 2.0)}
    return pa.concat_tables(
        pa.table({"stay": rows["stay"], "hour": rows["hour"], "what": [name] * rows.num_rows, "value": column})
        for name, column in named.items()
    )


def once() -> pa.Table:
    return stays().select(["stay", "age", "sex", "died", "load", "part"])


def of_test(table: pa.Table) -> pa.Table:
    """The rows of the test split."""
    return table.filter(pc.equal(table["part"], "test"))


def scored(found: pa.Table, searched: Any) -> dict[str, dict[str, float | None]]:
    """Metrics of binary and regression tasks, recomputed from predictions and the stored test labels, by sequence."""
    folder = ModelFolder.open(searched.model)
    tasks = [task for task in folder.config.tasks if not task.per_step]
    labels = open_store(folder.config.data).split("test").labels_NL[:, : len(tasks)].astype(np.float64)
    outputs = np.stack([found[task.name].to_numpy() for task in tasks], axis=1)
    for column in range(len(tasks)):
        labels[np.isnan(outputs[:, column]), column] = np.nan  # of a stay that ends before its label's step
    outputs = np.where(np.isnan(outputs), 0, outputs)
    return score_tasks(tasks, torch.tensor(outputs), torch.tensor(labels))


def test_nested_sequences_with_labels_of_rows_at_a_step_and_at_every_step(nested) -> None:
    rows = of_test(stays())
    model = package.load(nested.model)
    found = model.predict(rows, keep=["stay"])
    assert found.column_names == ["stay", "died", "load", "state", "state/calm", "state/wild"]
    assert found["stay"].to_pylist() == rows["stay"].to_pylist()
    test = nested.trial("test.json")
    for task, scores in scored(found, nested).items():
        assert scores == pytest.approx(test[task], rel=1e-5), task
    lengths = pc.list_value_length(rows["hour"])
    assert pc.list_value_length(found["state"]).to_pylist() == lengths.to_pylist()
    short = pc.less(lengths, 3)
    assert pc.is_null(found["load"]).to_pylist() == short.to_pylist(), "no prediction at a step that there is not"
    hits = pc.equal(pc.list_flatten(found["state"]), pc.list_flatten(rows["state"]))
    assert pc.mean(hits).as_py() == pytest.approx(test["state"]["accuracy"])
    split = model.table(model.split("test"))
    for name in ("died", "load"):
        np.testing.assert_allclose(found[name].to_numpy(), split[name].to_numpy(), rtol=1e-5)


def test_long_sequences_in_steps_of_time_with_summaries(mtlsearch, binned, tmp_path) -> None:
    rows = of_test(moments(stays()))
    parquet.write_table(rows, tmp_path / "rows.parquet")
    ended = mtlsearch("predict", binned.model, tmp_path / "rows.parquet", "--out", tmp_path / "p.csv")
    assert ended.code == 0, ended.err
    found = package.load(binned.model).predict(rows)
    assert found.column_names == ["stay", "died", "load"]
    assert found["stay"].to_pylist() == list(dict.fromkeys(rows["stay"].to_pylist())), "in order of appearance"
    for task, scores in scored(_in_store_order(found), binned).items():
        assert scores == pytest.approx(binned.trial("test.json")[task], rel=1e-5), task


def test_measurements_with_a_second_file(mtlsearch, measured, tmp_path) -> None:
    rows, beside = measures(), once().drop_columns(["died", "load", "part"])
    for name, table in (("rows", rows), ("beside", beside)):
        parquet.write_table(table, tmp_path / f"{name}.parquet")
    arguments = ("predict", measured.model, tmp_path / "rows.parquet", "--out", tmp_path / "p.parquet")
    assert mtlsearch(*arguments, "--static", tmp_path / "beside.parquet").code == 0
    found = parquet.read_table(tmp_path / "p.parquet")
    wanted = pc.is_in(found["stay"], value_set=of_test(stays())["stay"].combine_chunks())
    for task, scores in scored(_in_store_order(found.filter(wanted)), measured).items():
        assert scores == pytest.approx(measured.trial("test.json")[task], rel=1e-5), task
    ended = mtlsearch(*arguments, "--force")
    assert ended.code == 2
    assert "(a second file with one row a sequence is given with --static), but it lacks 'age' and 1 more" in ended.err


def _in_store_order(found: pa.Table) -> pa.Table:
    """Rows as the store has them, which read the whole table: in order of its first appearance."""
    everyone = list(dict.fromkeys(moments(stays())["stay"].to_pylist()))
    place = [everyone.index(stay) for stay in found["stay"].to_pylist()]
    return found.take(np.argsort(place))


def test_a_list_a_step_does_not_go_into_a_csv_file(mtlsearch, nested, tmp_path) -> None:
    parquet.write_table(stays(), tmp_path / "rows.parquet")
    ended = mtlsearch("predict", nested.model, tmp_path / "rows.parquet", "--out", tmp_path / "p.csv")
    assert (ended.code, [path.name for path in tmp_path.glob("*p.csv*")]) == (2, [])
    assert ended.err == "mtlsearch: a CSV file cannot hold lists, but column 'state' has them. Write .parquet.\n"


def test_wrong_sequences(nested, binned) -> None:
    rows, long = stays(), moments(stays())
    model = package.load(nested.model)
    with pytest.raises(ConfigError, match="column 'pulse' must hold a list a row, one value a step, but it is of type"):
        model.predict(rows.set_column(2, "pulse", rows["age"]))
    with pytest.raises(ConfigError, match=r"lists of a row must be of one length, .* but data row 1 holds"):
        model.predict(rows.set_column(2, "pulse", pa.array([[1.0] * 9] * NUM)))
    model = package.load(binned.model)
    pulses = pa.array(["1", "fast", *["2"] * (long.num_rows - 2)])
    with pytest.raises(ConfigError, match="data row 2 holds 'fast'"):
        model.predict(long.set_column(long.column_names.index("pulse"), "pulse", pulses))
    with pytest.raises(ConfigError, match="it lacks 'stay'"):
        model.predict(long.drop_columns(["stay"]))
    assert model.predict(long.slice(0, 0)).num_rows == 0

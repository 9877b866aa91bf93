"""`mtlsearch predict`: raw rows in, what the trial itself predicts out; and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from pyarrow import csv, feather, parquet

import mtlsearch as package
from mtlsearch.data import open_store
from mtlsearch.errors import ConfigError
from mtlsearch.export.model import UnseenCategory
from mtlsearch.export.model_folder import ModelFolder
from mtlsearch.folder import ExperimentFolder
from mtlsearch.models import build_model
from mtlsearch.train import Checkpoints, TensorData, World
from mtlsearch.train.evaluate import predict
from mtlsearch.train.metrics import score_tasks

pytestmark = pytest.mark.slow

COLUMNS = ["ill", "stage", "stage/high", "stage/low", "stage/mid", "signs/cough", "signs/fever", "born"]


@pytest.fixture
def test_rows(people_file) -> pa.Table:
    """The raw rows of the test split, in the file's order."""
    rows = parquet.read_table(people_file)
    return rows.filter(pc.equal(rows["part"], "test"))


def as_the_trial_predicts(searched):
    """outputs_PO of the trial's best weights on test, as train/evaluate gives them, regressions in original units."""
    folder = ModelFolder.open(searched.model)
    data = TensorData.load(open_store(folder.config.data), torch.device("cpu"))
    trial = ExperimentFolder.open(searched.folder).trial(searched.winner)
    model = build_model(folder.config.model, data.input_spec, data.tasks, trial.read_order().seed)
    model.load_state_dict(Checkpoints(trial.checkpoints).best(torch.device("cpu")).model)
    outputs_PO, labels_PL = predict(model, data, "test", World())
    return data.targets.unscaled(outputs_PO, labels_PL)


# The trial's own numbers -----------------------------------------------------------------------------------------


def test_raw_test_rows_get_the_very_predictions_that_the_trial_was_scored_with(table, test_rows) -> None:
    outputs_PO, _ = as_the_trial_predicts(table)
    found = package.load(table.model).predict(test_rows)
    assert found.column_names == COLUMNS
    stage = torch.softmax(outputs_PO[:, 1:4], 1)
    expected = torch.cat([outputs_PO[:, :1].sigmoid(), stage, outputs_PO[:, 4:6].sigmoid(), outputs_PO[:, 6:]], 1)
    numbers = np.stack([found[name].to_numpy() for name in COLUMNS if name != "stage"], axis=1)
    np.testing.assert_allclose(numbers, expected.numpy(), rtol=1e-6, atol=1e-6)
    classes = np.array(["high", "low", "mid"])
    assert found["stage"].to_pylist() == classes[stage.argmax(1).numpy()].tolist()


def test_scores_computed_from_the_predictions_are_those_of_test_json(table, test_rows) -> None:
    model, scores = package.load(table.model), table.trial("test.json")
    found = model.predict(test_rows)
    chances = [name for name in COLUMNS if name != "stage"]
    outputs = np.stack([found[name].to_numpy() for name in chances], axis=1)
    outputs[:, 1:4] = np.log(outputs[:, 1:4])
    stages = {"high": 0.0, "low": 1.0, "mid": 2.0}
    labels = [test_rows["ill"], [stages[each.as_py()] for each in test_rows["stage"]]]
    labels += [test_rows[name] for name in ("cough", "fever", "born")]
    labels_PL = torch.tensor(np.stack([np.asarray(column, float) for column in labels], axis=1))
    for task, again in score_tasks(model.tasks, torch.tensor(outputs), labels_PL).items():
        assert again == pytest.approx(scores[task], rel=1e-6), task


def test_a_built_in_data_set_s_split_is_predicted_from_the_experiment_s_own_data(mtlsearch, flights, tmp_path) -> None:
    ended = mtlsearch("predict", flights.model, "--split", "test", "--out", tmp_path / "test.parquet")
    assert (ended.code, ended.out) == (0, f"120 rows: {tmp_path / 'test.parquet'}\n")
    found = parquet.read_table(tmp_path / "test.parquet")
    outputs_PO, labels_PL = as_the_trial_predicts(flights)
    assert found.column_names == ["row", "cancelled", "dep_late15", "arr_delay", "air_time"]
    assert found["row"].to_pylist() == [*range(600, 720)]
    np.testing.assert_allclose(found["air_time"], outputs_PO[:, 3], rtol=1e-6)
    outputs_PO[:, :2] = torch.tensor(np.stack([found["cancelled"], found["dep_late15"]], axis=1))
    assert score_tasks(package.load(flights.model).tasks, outputs_PO, labels_PL) == {
        task: pytest.approx(scores) for task, scores in flights.trial("test.json").items()
    }


def test_a_built_in_data_set_s_own_columns_can_be_given_as_a_table(flights) -> None:
    model = package.load(flights.model)
    schema = json.loads((flights.model / "schema.json").read_text())
    texts = {each["name"] for each in schema["categorical"]}
    row = {each["name"]: [1.0, None] for each in schema["numeric"]} | {name: ["UA", None] for name in texts}
    with pytest.warns(UnseenCategory):
        assert model.predict(row, allow_unseen=True).num_rows == 2


def test_new_files_of_a_built_in_data_set_are_predicted_as_a_folder(
    mtlsearch, flights, small_flights, tmp_path
) -> None:
    assert mtlsearch("predict", flights.model, small_flights, "--out", tmp_path / "all.parquet").code == 0
    assert mtlsearch("predict", flights.model, "--split", "test", "--out", tmp_path / "test.parquet").code == 0
    every, test = (parquet.read_table(tmp_path / f"{name}.parquet") for name in ("all", "test"))
    assert every.num_rows == 720
    np.testing.assert_allclose(every.take(test["row"])["arr_delay"], test["arr_delay"], rtol=1e-6)


def test_new_files_are_in_the_layout_of_the_data_set(mtlsearch, flights, tmp_path, refused) -> None:
    (tmp_path / "empty").mkdir()
    assert "flights.csv" in refused("predict", flights.model, tmp_path / "empty", "--out", tmp_path / "p.parquet")


# Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "feather", "arrow"])
def test_every_kind_of_file_gives_what_python_gives(mtlsearch, table, test_rows, tmp_path, kind) -> None:
    data, out = tmp_path / f"rows.{kind}", tmp_path / f"found.{kind}"
    match kind:
        case "parquet":
            parquet.write_table(test_rows, data)
        case "csv":
            csv.write_csv(test_rows, data)
        case _:
            feather.write_feather(test_rows, data)
    assert mtlsearch("predict", table.model, data, "--out", out).code == 0
    found = {"parquet": parquet.read_table, "csv": csv.read_csv}.get(kind, feather.read_table)(out)
    expected = package.load(table.model).predict(test_rows)
    assert found.column_names == expected.column_names
    for name in COLUMNS:
        if name == "stage":
            assert found[name].to_pylist() == expected[name].to_pylist()
        else:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_rows_keep_their_order_and_columns_pass_through(mtlsearch, table, test_rows, tmp_path) -> None:
    data, out = tmp_path / "rows.parquet", tmp_path / "found.parquet"
    backwards = test_rows.take(list(reversed(range(test_rows.num_rows))))
    parquet.write_table(backwards, data, row_group_size=7)
    ended = mtlsearch("predict", table.model, data, "--out", out, "--keep", "id", "--keep", "town", "--batch-rows", 11)
    assert ended.code == 0, ended.err
    found, expected = parquet.read_table(out), package.load(table.model).predict(backwards)
    assert found.column_names == ["id", "town", *COLUMNS]
    assert found.select(["id", "town"]) == backwards.select(["id", "town"]).combine_chunks()
    np.testing.assert_allclose(found["born"], expected["born"], rtol=1e-9)


def test_columns_that_are_no_inputs_are_not_asked_for_and_not_looked_at(table, test_rows) -> None:
    model = package.load(table.model)
    bare = test_rows.drop_columns(["id", "ill", "stage", "cough", "fever", "born", "part"])
    more = bare.append_column("note", pa.array(["x"] * bare.num_rows)).append_column("ill", bare["town"])
    assert model.predict(bare) == model.predict(more) == model.predict(test_rows)
    assert model.predict(bare.select(reversed(bare.column_names))) == model.predict(test_rows)


def test_a_table_without_rows_has_no_predictions(mtlsearch, table, test_rows, tmp_path) -> None:
    for name, write in (("none.parquet", parquet.write_table), ("none.csv", csv.write_csv)):
        write(test_rows.slice(0, 0), tmp_path / name)
        ended = mtlsearch("predict", table.model, tmp_path / name, "--out", tmp_path / "p.parquet", "--force")
        assert (ended.code, ended.out) == (0, f"0 rows: {tmp_path / 'p.parquet'}\n")
        assert parquet.read_schema(tmp_path / "p.parquet").names == COLUMNS


def test_pandas_and_plain_arrays_are_tables_too(table, test_rows) -> None:
    model = package.load(table.model)
    expected = model.predict(test_rows)
    assert model.predict(test_rows.to_pandas()) == expected
    assert model.predict({name: test_rows[name].combine_chunks() for name in test_rows.column_names}) == expected
    with pytest.raises(ConfigError, match="the data must be a pyarrow Table, a pandas DataFrame or arrays by column"):
        model.predict([1, 2])


# What the encoders do ---------------------------------------------------------------------------------------------


def test_a_missing_value_is_encoded_as_in_training(table, test_rows) -> None:
    model, schema = package.load(table.model), json.loads((table.model / "schema.json").read_text())
    (age,) = (each for each in schema["numeric"] if each["name"] == "age")
    assert age["indicator"], "training had gaps"
    gap, mean = ({**_row(test_rows), "age": [value]} for value in (None, age["mean"]))
    assert model.predict(gap)["born"] != model.predict(mean)["born"], "the indicator tells them apart"
    nan = {**_row(test_rows), "age": pa.array([float("nan")])}
    assert model.predict(nan) == model.predict(gap)


def test_a_category_that_training_did_not_have_is_refused_or_the_unknown_one_and_counted(
    mtlsearch, table, test_rows, tmp_path, refused
) -> None:
    towns = pa.array(["Rome", *test_rows["town"].to_pylist()[1:-1], "Oslo"])
    rows = test_rows.set_column(test_rows.column_names.index("town"), "town", towns)
    parquet.write_table(rows, tmp_path / "rows.parquet")
    said = "column 'town': 2 values are of a category that training did not have, such as 'Rome'"
    arguments = ("predict", table.model, tmp_path / "rows.parquet", "--out", tmp_path / "p.parquet")
    assert refused(*arguments) == (
        f"{said} (up to here). Nothing was learnt of it: mend it, or take it for the unknown category with "
        "--allow-unseen."
    )
    with pytest.raises(ConfigError, match="with allow_unseen=True"):
        package.load(table.model).predict(rows)
    ended = mtlsearch(*arguments, "--allow-unseen")
    assert (ended.code, ended.err) == (0, f"note: {said}\n")
    with pytest.warns(UnseenCategory, match=said):
        assert package.load(table.model).predict(rows, allow_unseen=True) == parquet.read_table(tmp_path / "p.parquet")


def _row(rows: pa.Table) -> dict[str, list[object]]:
    return {name: rows[name].to_pylist()[:1] for name in rows.column_names}


# Wrong input -----------------------------------------------------------------------------------------------------


def test_a_column_that_is_not_there_is_named(table, test_rows, tmp_path, refused) -> None:
    parquet.write_table(test_rows.rename_columns({"age": "Age"}).drop_columns(["town"]), tmp_path / "rows.parquet")
    assert refused("predict", table.model, tmp_path / "rows.parquet", "--out", tmp_path / "p.parquet") == (
        "rows.parquet: the data must have every column that the model reads, but it lacks 'age' and 1 more; it has id, "
        "Age, income, member, since, ill, stage, cough, fever, born, part. Is it 'Age'?"
    )


def test_a_text_among_numbers_is_told_with_its_place(table, test_rows, tmp_path, refused) -> None:
    incomes = pa.array(["1.5", "many", *["2"] * (test_rows.num_rows - 2)])
    rows = test_rows.set_column(test_rows.column_names.index("income"), "income", incomes)
    parquet.write_table(rows, tmp_path / "rows.parquet")
    csv.write_csv(rows, tmp_path / "rows.csv")
    model, out = table.model, tmp_path / "p.parquet"
    assert refused("predict", model, tmp_path / "rows.parquet", "--out", out) == (
        "rows.parquet: column 'income' must hold numbers, but data row 2 holds 'many'. Mend it."
    )
    assert refused("predict", model, tmp_path / "rows.csv", "--out", out) == (
        "rows.csv:3: column 'income' must hold numbers, but here stands 'many'. Mend it, or add it to data.missing."
    )


def test_lists_and_infinite_numbers_are_refused(table, test_rows) -> None:
    model, row = package.load(table.model), _row(test_rows)
    with pytest.raises(ConfigError, match=r"column 'age' must hold one value a row, but it is of type list<"):
        model.predict({**row, "age": [[1.0]]})
    with pytest.raises(ConfigError, match="table: column 'age' must be finite, but data row 1 holds inf"):
        model.predict({**row, "age": [float("inf")]})


def test_what_is_there_is_not_overwritten(mtlsearch, table, test_rows, tmp_path, refused) -> None:
    data, out = tmp_path / "rows.parquet", tmp_path / "p.parquet"
    parquet.write_table(test_rows, data)
    out.write_text("mine")
    again = ("predict", table.model, data, "--out", out)
    assert (
        refused(*again) == "--out must be a new file, but p.parquet exists. Choose another or replace it with --force."
    )
    assert mtlsearch(*again, "--force").code == 0
    assert parquet.read_table(out).num_rows == test_rows.num_rows
    said = refused("predict", table.model, data, "--out", data, "--force")
    assert said == "--out must be a new file, but rows.parquet is the data itself. Choose another."


def test_a_file_that_fails_half_way_leaves_nothing_and_keeps_what_was_there(
    table, test_rows, tmp_path, refused
) -> None:
    rows = test_rows.set_column(2, "income", pa.array([1.0] * (test_rows.num_rows - 1) + [float("inf")]))
    parquet.write_table(rows, tmp_path / "rows.parquet")
    (tmp_path / "p.parquet").write_text("mine")
    arguments = ("--out", tmp_path / "p.parquet", "--force", "--batch-rows", 8)
    said = refused("predict", table.model, tmp_path / "rows.parquet", *arguments)
    assert said.startswith(
        f"rows.parquet: column 'income' must be finite, but data row {test_rows.num_rows} holds inf."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "p.parquet"), "predict needs either DATA or --split, but neither is given. Give one of them."),
        (("rows.parquet", "--split", "test", "--out", "p.parquet"), "predict needs either DATA or --split, but both"),
        (("rows.parquet", "--out", "p.xlsx"), "--out must end in .parquet, .feather, .arrow, .csv, but is 'p.xlsx'."),
        (("rows.parquet", "--out", "no/p.csv"), "--out must be in a folder that exists, but no does not."),
        (("rows.parquet", "--out", "p.csv"), "rows.parquet: the file must exist, but there is none."),
        (("rows.json", "--out", "p.csv"), "rows.json: a table's extension must be one of"),
        (("people.parquet", "--out", "p.csv", "--keep", "idd"), "people.parquet: --keep must name columns of the data"),
        (("people.parquet", "--out", "p.csv", "--keep", "ill"), "the predictions have a column 'ill' already"),
        (("people.parquet", "--out", "p.csv", "--static", "x"), "--static belongs to sequences, but the model reads"),
    ],
)
def test_what_is_asked_for_is_checked(table, test_rows, refused, arguments, message) -> None:
    parquet.write_table(test_rows, "people.parquet")
    open("rows.json", "w").close()  # noqa: PTH123 - any file
    assert refused("predict", table.model, *arguments).removeprefix("here/").startswith(message)


@pytest.mark.parametrize(
    ("data", "out", "found"),
    [
        ("many", "many/b.parquet", "is the data itself"),
        ("many/*.parquet", "many/b.parquet", "is the data itself"),
        ("many", "many/new.csv", "is in the folder of the data"),
        ("many/*.parquet", "many/new.parquet", "is matched by the glob of the data"),
        ("**/*.parquet", "many/new.parquet", "is matched by the glob of the data"),
    ],
)
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_predictions_never_lie_among_the_data(table, test_rows, tmp_path, refused, data, out, found, force) -> None:
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        parquet.write_table(test_rows, tmp_path / "many" / f"{name}.parquet")
    said = refused("predict", table.model, tmp_path / data, "--out", tmp_path / out, *force)
    assert said == f"--out must be a new file, but {out} {found}. Choose another."


def test_nor_do_they_replace_what_else_is_read(table, people_file, test_rows, tmp_path, refused) -> None:
    data, static = tmp_path / "rows.parquet", tmp_path / "static.parquet"
    for path in (data, static):
        parquet.write_table(test_rows, path)
    arguments = ("predict", table.model, data, "--static", static, "--out", static, "--force")
    assert "static.parquet is the file of --static itself." in refused(*arguments)
    assert "is in the folder of the model." in refused("predict", table.model, data, "--out", table.model / "p.csv")
    command = ("predict", table.model, "--split", "test", "--out", people_file, "--force")
    assert "is the data that the model learnt from itself." in refused(*command)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("since", [3], "column 'since' must hold timestamps, as in training, but holds integers. Convert it."),
        ("since", ["2020-01-01"], "column 'since' must hold timestamps, as in training, but holds texts. Convert it."),
        ("member", [2.0], "column 'member' must hold true or false, as in training, but holds numbers. Convert it."),
        ("age", [True], "column 'age' must hold numbers, as in training, but holds true or false. Convert it."),
        ("town", [1], "column 'town' must hold texts, as in training, but holds integers. Convert it."),
    ],
)
def test_a_column_of_another_kind_than_in_training_is_refused(table, test_rows, column, values, message) -> None:
    with pytest.raises(ConfigError, match=f"^table: {message}$"):
        package.load(table.model).predict({**_row(test_rows), column: values})


def test_integers_are_numbers_and_what_is_missing_is_of_any_kind(table, test_rows) -> None:
    model, row = package.load(table.model), _row(test_rows)
    assert model.predict({**row, "age": [40]}) == model.predict({**row, "age": [40.0]})
    gap = model.predict({**row, "since": pa.array([None], pa.date32())})
    assert model.predict({**row, "since": [None]}) == model.predict({**row, "since": [float("nan")]}) == gap


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"age": [1.0, "x"]}, "table: column 'age' must be an array of values of one kind, but "),
        ({"age": 3}, "table: column 'age' must be an array of values of one kind, but "),
        ({"age": [1.0, 2.0]}, "table: all columns must have as many rows, but 'id' has 1 and 'age' 2."),
    ],
)
def test_arrays_that_are_no_table(table, test_rows, changed, message) -> None:
    with pytest.raises(ConfigError, match=message):
        package.load(table.model).predict({**_row(test_rows), **changed})


def test_a_name_twice_and_no_rows_at_a_time(table, test_rows) -> None:
    model = package.load(table.model)
    twice = test_rows.append_column("age", test_rows["age"])
    for data in (twice, test_rows.to_pandas().loc[:, ["age", "age"]]):
        with pytest.raises(ConfigError, match="every column must have its own name, but 'age' is there twice"):
            model.predict(data)
    with pytest.raises(ConfigError, match="batch_rows must be at least 1, found 0"):
        model.predict(test_rows, batch_rows=0)


def test_one_row_is_a_row(mtlsearch, table, test_rows, tmp_path) -> None:
    parquet.write_table(test_rows.slice(0, 1), tmp_path / "row.parquet")
    ended = mtlsearch("predict", table.model, tmp_path / "row.parquet", "--out", tmp_path / "p.parquet")
    assert ended.out == f"1 row: {tmp_path / 'p.parquet'}\n"

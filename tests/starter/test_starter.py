"""`mtlsearch init`: what it sees of a table that nobody prepared, and the space file that it writes."""

import csv
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtlsearch.data import DataSchema
from mtlsearch.errors import ConfigError
from mtlsearch.space import read_experiment
from mtlsearch.starter import Proposed, start
from mtlsearch.starter.leaks import groups_of, leak_of
from mtlsearch.starter.space_file import quoted

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(name=[...], …)` makes a CSV file of these columns."""

    def to_csv(file: str = "people.csv", **columns: Iterable[object]) -> Path:
        path = tmp_path / file
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return path

    return to_csv


def people(count: int = 400) -> dict[str, list[object]]:
    """Two labels that follow age; who is who; a column that knows the one label."""
    draw = random.Random(0)
    age = [draw.randrange(18, 90) for _ in range(count)]
    died = [int(draw.random() < years / 100) for years in age]
    return {
        "patient_id": [i // 3 for i in range(count)],
        "age": age,
        "city": [draw.choice(["Ulm", "Jena", ""]) for _ in range(count)],
        "autopsy": ["done" if dead else "none" for dead in died],
        "days": [round(years * 1.5 + draw.random() * 30, 2) for years in age],
        "died": died,
        "readmitted": [draw.choice(["yes", "no", "no", "no"]) for _ in range(count)],
    }


def test_labels_are_guessed_by_their_names(write: Write) -> None:
    starter = start(str(write(**people())), None, Path("space.yaml"))
    assert starter.proposal.tasks == (Proposed("died", "binary"), Proposed("readmitted", "binary", "yes"))
    assert {"age", "days", "city", "autopsy"} <= set(starter.proposal.others)
    assert starter.proposal.group == "patient_id"


def test_without_such_a_name_the_last_column_is_the_label(write: Write) -> None:
    draw = random.Random(0)
    columns = {"width": [draw.random() for _ in range(90)], "kind": [i % 3 for i in range(90)]}
    assert start(str(write(**columns)), None, Path("s.yaml")).proposal.tasks == (Proposed("kind", "multiclass"),)


def test_tasks_can_be_chosen(write: Write) -> None:
    starter = start(str(write(**people())), ["days", "city"], Path("space.yaml"))
    assert starter.proposal.tasks == (Proposed("days", "regression"), Proposed("city", "binary", "Ulm"))


def test_a_task_whose_column_cannot_name_it_gets_another_name(write: Write, tmp_path: Path) -> None:
    columns = people() | {"end/dead": people()["died"], "test": people()["days"]}
    starter = start(str(write(**columns)), ["end/dead", "test"], tmp_path / "space.yaml")
    (tmp_path / "space.yaml").write_text(starter.text)
    data = read_experiment(tmp_path / "space.yaml").data
    assert [task.title for task in data.tasks] == ["end_dead", "test_label"]


def test_a_task_that_is_no_column_gets_the_nearest(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"unknown column 'dyed'.* Did you mean `died`\?"):
        start(str(write(**people())), ["dyed"], Path("space.yaml"))


def test_a_task_that_cannot_be_learnt_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match="'same', which cannot be predicted: it holds number values, 1 different"):
        start(str(write(same=[1] * 20, y=[0, 1] * 10)), ["same"], Path("space.yaml"))


def test_a_table_without_anything_to_predict_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match="a table needs a column that can be predicted"):
        start(str(write(same=[1] * 20, note=[f"text {i}" for i in range(20)])), None, Path("space.yaml"))


def test_a_column_that_knows_the_label_is_a_suspect(write: Write) -> None:
    starter = start(str(write(**people())), None, Path("space.yaml"))
    assert [(leak.column, leak.task, leak.metric) for leak in starter.leaks] == [("autopsy", "died", "AUROC")]
    assert "# drop: [autopsy]" in starter.text


LABELS_N = np.array([0.0, 1.0] * 200)
DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "is_leak"),
    [
        (LABELS_N, True),
        (-LABELS_N + DRAW.normal(0, 0.01, 400), True),
        (np.where(LABELS_N > 0, np.nan, 3.0), True),  # known by what is missing: a date of death
        (LABELS_N + DRAW.normal(0, 0.5, 400), False),
        (np.arange(400.0) * 7 % 400, False),  # a value a row predicts nothing, though it knows all the rows it has seen
    ],
)
def test_which_numbers_are_leaks(values: np.ndarray, is_leak: bool) -> None:
    groups_N = groups_of(pa.chunked_array([pa.array(values, from_pandas=True)]), is_number=True)
    assert (leak_of("x", groups_N, "y", "binary", LABELS_N) is not None) is is_leak


def test_names_that_differ_on_every_row_are_no_leak() -> None:
    groups_N = groups_of(pa.chunked_array([[f"name {i}" for i in range(400)]]), is_number=False)
    assert leak_of("name", groups_N, "y", "binary", LABELS_N) is None


def test_a_class_that_is_easy_alone_is_no_leak_but_a_copy_of_all_is() -> None:
    wards_N = np.arange(300) % 3.0
    one_N = (wards_N == 0) + 0.0
    column = [pa.chunked_array([values]) for values in (one_N, 7 - wards_N)]
    found = [leak_of("x", groups_of(values, is_number=True), "ward", "multiclass", wards_N) for values in column]
    assert found[0] is None
    assert found[1] is not None


def test_a_scaled_copy_of_a_regression_label_is_a_leak() -> None:
    dose_N = DRAW.normal(10, 3, 5000)
    for values, is_leak in ((dose_N * 2.2, True), (dose_N + DRAW.normal(0, 1, 5000), False)):
        groups_N = groups_of(pa.chunked_array([values]), is_number=True)
        found = leak_of("x", groups_N, "dose", "regression", dose_N)
        assert (found is not None) is is_leak
        assert found is None or found.metric == "R²"


@pytest.mark.parametrize("text", ["age", "mean radius", "yes", "a: b", "1st", "naïve", "-", "#x", "", "x #y", "[a]"])
def test_names_survive_yaml(text: str, tmp_path: Path) -> None:
    import yaml

    assert yaml.safe_load(f"{{column: {quoted(text)}}}") == {"column": text}


def test_the_space_file_is_read_back(write: Write, tmp_path: Path) -> None:
    path = write(**people())
    out = tmp_path / "space.yaml"
    out.write_text(start(str(path), None, out).text)
    experiment = read_experiment(out)
    assert experiment.data.path == str(path)
    assert [task.title for task in experiment.data.tasks] == ["died", "readmitted"]
    assert experiment.data.group == "patient_id"
    assert experiment.name == "people"


@pytest.mark.parametrize(
    "values",
    [["train", "val", "test"], ["training", "dev", "testing"]],
)
def test_a_column_that_says_the_split_is_used(write: Write, values: list[str]) -> None:
    columns = people()
    columns["part"] = [values[min(i // 130, 2)] for i in range(400)]
    starter = start(str(write(**columns)), None, Path("space.yaml"))
    assert starter.proposal.split == "part"
    assert "  split: part" in starter.text


def test_large_tables_are_sampled_evenly(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlsearch.starter.survey.SAMPLE", 100)
    table = start(str(write(**people())), None, Path("space.yaml")).table
    assert (table.num_rows, table.num_sampled) == (400, 100)
    assert table.columns["patient_id"].floats()[-1] > 120


def test_init_check_run(mtlsearch: Callable[..., object], write: Write) -> None:
    path = write(**people())
    ended = mtlsearch("init", path)
    assert ended.code == 0, ended.err
    assert "task died: binary; " in ended.out
    assert "suspect: autopsy alone predicts died (AUROC 1.0000)" in ended.out
    assert "Next: mtlsearch check space.yaml" in ended.out
    again = mtlsearch("init", path)
    assert (again.code, again.out) == (2, "")
    assert "space.yaml: the space file must be a new one, but it is there already" in again.err
    checked = mtlsearch("check", "space.yaml")
    assert checked.code == 0, checked.err
    ran = mtlsearch(
        *("run", "space.yaml", "--engine", "local", "--trials", 2, "--set", "budget.epochs=2", "--out", "out")
    )
    assert ran.code == 0, ran.err
    assert "data: in memory, " in ran.out
    schema = DataSchema.model_validate_json(Path("out/schema.json").read_text())
    assert [task.name for task in schema.tasks] == ["died", "readmitted"]

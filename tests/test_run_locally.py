"""A search from its space file to its leaderboard, in this process: what the folder holds, and how to go on."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from pyarrow import parquet

from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.session import Session
from mtlsearch.records import TrialOrder

TASKS = ("cancelled", "dep_late15", "arr_delay", "air_time")


@pytest.fixture
def out(mtlsearch, space_file, tmp_path) -> Path:
    """The folder of a finished search: 4 trials of 2 epochs after 4 baselines."""
    folder = tmp_path / "out"
    ended = mtlsearch("run", space_file(), "--engine", "local", "--out", folder)
    assert ended.code == 0, ended.err
    return folder


def _study(folder: Path) -> list[FrozenTrial]:
    """The study as any user of Optuna opens it."""
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


def _lines(folder: Path, number: int) -> list[dict[str, Any]]:
    text = (folder / "trials" / f"{number:05d}" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def _csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def interrupted_after(monkeypatch) -> Iterator[Any]:
    """`with interrupted_after(3):` Ctrl-C comes when the third epoch has been taken."""

    def interrupt(epochs: int) -> Any:
        patch, taken, report = pytest.MonkeyPatch.context(), [], Session.report

        def counted(session: Session, *arguments: Any) -> Any:
            decision = report(session, *arguments)
            taken.append(decision)
            if len(taken) == epochs:
                raise KeyboardInterrupt
            return decision

        class _Patched:
            def __enter__(self) -> None:
                patch.__enter__().setattr(Session, "report", counted)

            def __exit__(self, *_: object) -> None:
                patch.__exit__(None, None, None)

        return _Patched()

    return interrupt


# The folder ------------------------------------------------------------------------------------------------------


def test_the_folder_holds_what_made_it_and_what_came_of_it(out, space_file):
    assert {path.name for path in out.iterdir()} == {
        *(
            "space.yaml",
            "plan.json",
            "schema.json",
            "study.journal",
            "leaderboard.csv",
            "leaderboard.parquet",
            "trials",
        ),
        *("drivers.json", "driver.lock"),
    }
    assert (out / "space.yaml").read_text() == space_file().read_text()
    plan = json.loads((out / "plan.json").read_text())
    assert (plan["name"], plan["seed"], plan["data"]["source"]) == ("small", 3, "flights")
    assert [task["name"] for task in plan["tasks"]] == [*TASKS]
    assert set(plan["versions"]) >= {"python", "torch", "ray", "optuna"}
    assert len(plan["data_digest"]) >= 12
    assert sorted(path.name for path in (out / "trials").iterdir()) == [f"{number:05d}" for number in range(8)]
    for trial in (out / "trials").iterdir():
        assert {path.name for path in trial.iterdir()} >= {"order.json", "metrics.jsonl", "checkpoint"}


def test_the_leaderboard_agrees_with_the_study_and_with_what_the_trials_measured(out):
    rows = _csv((out / "leaderboard.csv").read_text())
    trials = {trial.number: trial for trial in _study(out)}
    assert sorted(int(row["trial"]) for row in rows) == sorted(trials)
    for row in rows:
        number = int(row["trial"])
        trial, epochs = trials[number], _lines(out, number)
        order = TrialOrder.model_validate_json((out / "trials" / f"{number:05d}" / "order.json").read_text())
        best = max(epochs, key=lambda epoch: epoch["objective"])
        assert row["state"] == trial.state.name == "COMPLETE"
        assert row["reason"] == trial.user_attrs["outcome"] == "trained all 2 epochs"
        assert (int(row["epochs"]), int(row["best_epoch"])) == (2, best["epoch"])
        assert float(row["seconds"]) == sum(epoch["seconds"] for epoch in epochs)
        assert float(row["objective"]) == trial.value
        assert {name: float(row[name]) for name in row if "/" in name and "test/" not in name and row[name]} == {
            f"{task}/{metric}": value
            for task, scores in best["validation"].items()
            for metric, value in scores.items()
            if value is not None
        }
        if row["role"] == "baseline":
            assert (trial.value, trial.user_attrs["baseline"]) == (0.0, order.tasks[0])
        else:
            assert trial.value == best["objective"]
            assert trial.intermediate_values == {epoch["epoch"]: epoch["objective"] for epoch in epochs}
            assert float(row["optimizer.lr"]) == trial.params["optimizer.lr"]
            assert row["model.kind"] == trial.params["model"]


def test_rows_are_ranked_and_the_three_best_are_scored_on_the_test_split(out):
    rows = _csv((out / "leaderboard.csv").read_text())
    assert [row["role"] for row in rows] == 4 * ["trial"] + 4 * ["baseline"]
    objectives = [float(row["objective"]) for row in rows[:4]]
    assert objectives == sorted(objectives, reverse=True)
    assert [bool(row["test/air_time/rmse"]) for row in rows[:4]] == [True, True, True, False]
    for row in rows[:3]:
        test = json.loads((out / "trials" / f"{int(row['trial']):05d}" / "test.json").read_text())
        assert float(row["test/air_time/rmse"]) == test["air_time"]["rmse"]


def test_what_a_run_prints(mtlsearch, space_file, tmp_path):
    ended = mtlsearch("run", space_file(), "--engine", "local", "--out", tmp_path / "out")
    lines = ended.out.splitlines()
    assert lines[0].startswith("data: in memory, ")
    assert lines[1] == "small: 4 single-task baselines, then up to 4 trials"
    assert lines[2].startswith("trial 0 (baseline cancelled) epoch 1: objective +0.")
    assert sum(" epoch " in line for line in lines) == 16
    assert lines[-2].split(":")[0].endswith(" on test")
    assert lines[-1] == f"everything is in: {tmp_path / 'out'}"
    assert ended.err == ""


def test_without_out_the_folder_is_named_after_the_experiment_and_the_time(mtlsearch, space_file):
    assert mtlsearch("run", space_file(), "--engine", "local", "--trials", 1).code == 0
    (folder,) = Path("experiments").iterdir()
    name, day, time = folder.name.split("-")
    assert (name, len(day), len(time)) == ("small", 8, 6)
    assert (folder / "leaderboard.csv").exists()


# The leaderboard -------------------------------------------------------------------------------------------------


def test_the_leaderboard_command_in_its_three_formats(mtlsearch, out):
    as_csv, as_json = (
        mtlsearch("leaderboard", out, "--format", "csv"),
        mtlsearch("leaderboard", out, "--format", "json"),
    )
    assert as_csv.out == (out / "leaderboard.csv").read_text()
    rows = json.loads(as_json.out)
    assert rows == parquet.read_table(out / "leaderboard.parquet").to_pylist()
    assert [_as_text(row) for row in rows] == [_as_text(row) for row in _csv(as_csv.out)]
    table = mtlsearch("leaderboard", out).out.splitlines()
    assert table[2].split() == ["trial", "model", "state", "objective", "auroc", "auroc", "rmse", "rmse"]
    assert [line.split()[0] for line in table[3:]] == [*(str(row["trial"]) for row in rows[:4]), "baselines"]
    assert max(map(len, table)) <= 80
    assert "…" not in "".join(table)


def _as_text(row: Mapping[str, object]) -> dict[str, str]:
    """A row with its numbers written in one way."""
    return {name: "" if value is None else _number(str(value)) for name, value in row.items()}


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text


def test_a_search_that_has_not_begun_has_an_empty_leaderboard(mtlsearch, space_file, tmp_path):
    ExperimentFolder.create(tmp_path / "new", space_file().read_text(), {"overrides": []}, "{}")
    assert mtlsearch("leaderboard", tmp_path / "new").out == "no trial yet\n"
    assert json.loads(mtlsearch("leaderboard", tmp_path / "new", "--format", "json").out) == []
    assert _csv(mtlsearch("leaderboard", tmp_path / "new", "--format", "csv").out) == []


# Going on --------------------------------------------------------------------------------------------------------


def test_a_second_run_into_the_same_folder_is_refused(mtlsearch, out, space_file):
    before = (out / "study.journal").read_bytes()
    ended = mtlsearch("run", space_file(), "--engine", "local", "--out", out)
    assert ended.code == 2
    assert ended.err == (
        f"mtlsearch: --out must be a new folder, but {out} exists. "
        f"Choose another, or go on with `mtlsearch resume {out}`.\n"
    )
    assert (out / "study.journal").read_bytes() == before


def test_resuming_a_finished_search_changes_nothing(mtlsearch, out):
    files = [*out.glob("trials/*/*.json*"), out / "study.journal", out / "leaderboard.csv"]
    before = {path: path.read_bytes() for path in files}
    ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1] == "small: 4 single-task baselines, then up to 4 trials, 4 of them done"
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", None], ids=["named", "named after its file"])
def test_ctrl_c_and_resume_with_the_same_overrides(mtlsearch, space_file, tmp_path, interrupted_after, name):
    out = tmp_path / "with space"
    arguments = ("--engine", "local", "--out", out, "--trials", 3, "--set", "budget.epochs=3", "--set", "search.seed=9")
    with interrupted_after(4 * 3 + 4):  # the first epoch of the second trial
        ended = mtlsearch("run", space_file("other.yaml", name=name), *arguments)
    assert ended.code == 130
    assert ended.err == f"mtlsearch: interrupted. Go on with: mtlsearch resume '{out}'\n"
    assert [trial.state for trial in _study(out)] == 5 * [TrialState.COMPLETE] + [TrialState.RUNNING]

    ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 0, ended.err
    trials = _study(out)
    assert [trial.state for trial in trials] == 7 * [TrialState.COMPLETE]
    assert [len(_lines(out, trial.number)) for trial in trials] == 7 * [3]

    whole = tmp_path / "whole"
    arguments = ("--engine", "local", "--out", whole, *arguments[4:])
    assert mtlsearch("run", space_file("other.yaml", name=name), *arguments).code == 0
    assert [(trial.params, trial.intermediate_values) for trial in trials] == [
        (trial.params, trial.intermediate_values) for trial in _study(whole)
    ]


def test_ctrl_c_before_anything_is_written(mtlsearch, space_file, tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlsearch.orchestrate.drive.open_store", interrupt)
    ended = mtlsearch("run", space_file(), "--engine", "local", "--out", tmp_path / "out")
    assert ended.code == 130
    assert ended.err == "mtlsearch: interrupted. Nothing was written.\n"
    assert not (tmp_path / "out").exists()


def test_a_second_driver_is_refused_while_the_first_one_searches(mtlsearch, out):
    before = (out / "study.journal").read_bytes()
    with ExperimentFolder.open(out).driven():
        ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 2
    assert ended.err.startswith(f"mtlsearch: {out} is being searched by process ")
    assert (out / "study.journal").read_bytes() == before
    assert mtlsearch("resume", out, "--engine", "local").code == 0


def test_a_search_is_not_resumed_on_other_data(mtlsearch, space_file, small_flights, tmp_path):
    data = shutil.copytree(small_flights, tmp_path / "data")
    file, out = space_file(data=f"{{source: flights, path: {data}}}"), tmp_path / "out"
    assert mtlsearch("run", file, "--engine", "local", "--trials", 1, "--out", out).code == 0
    (data / "flights.csv").write_text((data / "flights.csv").read_text().replace("UA", "AA"))
    ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 2
    assert "Scores on different data cannot be ranked together: start a new search." in ended.err


def test_a_domain_that_is_no_column_is_refused_before_anything_is_written(mtlsearch, space_file, tmp_path):
    path = space_file(space="{model: {kind: man_moe, hidden: 8, domain: carier}}")
    ended = mtlsearch("run", path, "--engine", "local", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "there is no 'carier'" in ended.err
    assert not (tmp_path / "out").exists()


def test_one_wrong_domain_among_several_is_refused_too(mtlsearch, space_file, tmp_path):
    path = space_file(space="{model: {kind: man_moe, hidden: 8, domain: {choice: [carier, carrier]}}}")
    ended = mtlsearch("run", path, "--engine", "local", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "small.yaml:3:" in ended.err
    assert "there is no 'carier'" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_search_whose_trials_all_fail_has_failed(mtlsearch, space_file, tmp_path):
    space = "{model: {kind: mmoe, hidden: 8}, optimizer: {kind: sgd, lr: 10.0, weight_decay: 1.0}, batch_size: 8}"
    ended = mtlsearch(
        "run", space_file(space=space, objective="{metric: mean}"), "--engine", "local", "--out", tmp_path / "out"
    )
    assert ended.code == 1
    assert "every trial failed. Trial " in ended.err
    assert (tmp_path / "out" / "leaderboard.csv").exists()


def test_a_task_metric_and_a_baseline_free_search(mtlsearch, space_file, tmp_path):
    out = tmp_path / "out"
    assert mtlsearch("run", space_file(objective="air_time/rmse"), "--engine", "local", "--out", out).code == 0
    rows = _csv((out / "leaderboard.csv").read_text())
    assert [row["role"] for row in rows] == 4 * ["trial"]
    assert [float(row["objective"]) for row in rows] == [-float(row["air_time/rmse"]) for row in rows]

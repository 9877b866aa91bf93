"""`mtlsearch.open`: an experiment as Arrow tables; and what the package's own examples say is true."""

from __future__ import annotations

import doctest
import json

import pyarrow.compute as pc
import pytest
from pyarrow import parquet

import mtlsearch as package
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder


def test_the_tables_agree_with_the_files(flights) -> None:
    experiment = package.open(flights.folder)
    assert experiment.trials == parquet.read_table(flights.folder / "leaderboard.parquet")
    assert experiment.best["trial"].to_pylist() == [flights.winner]
    epochs = experiment.epochs
    lines = (flights.folder / "trials" / f"{flights.winner:05d}" / "metrics.jsonl").read_text().splitlines()
    own = epochs.filter(pc.equal(epochs["trial"], flights.winner)).to_pylist()
    for line in map(json.loads, lines):
        found = {(row["task"], row["metric"]): row["value"] for row in own if row["epoch"] == line["epoch"]}
        assert found[None, "objective"] == line["objective"]
        for task, scores in line["validation"].items():
            assert {metric: found[task, metric] for metric in scores} == scores
            assert found[task, "train_loss"] == line["train_loss"][task]
            assert found[task, "task_weight"] == line["task_weights"][task]


def test_baselines_and_space(flights) -> None:
    experiment = package.open(flights.folder)
    rows = {row["trial"]: row for row in experiment.trials.to_pylist()}
    for baseline in experiment.baselines.to_pylist():
        name = f"{baseline['task']}/{baseline['metric']}"
        assert (baseline["value"], baseline["test"]) == (
            rows[baseline["trial"]][name],
            rows[baseline["trial"]][f"test/{name}"],
        )
    space = {row["parameter"]: row for row in experiment.space.to_pylist()}
    assert (space["model"]["kind"], space["model"]["options"]) == ("choice", ["shared_bottom", "mmoeex"])
    assert experiment.final.num_rows == 0
    assert repr(experiment) == f"<experiment 'small': 6 trials in {flights.folder}>"


def test_an_experiment_that_has_not_begun_has_empty_tables(space_file, tmp_path) -> None:
    ExperimentFolder.create(tmp_path / "new", space_file().read_text(), {"overrides": [], "tasks": []}, "{}")
    experiment = package.open(tmp_path / "new")
    tables = (experiment.trials, experiment.best, experiment.epochs, experiment.baselines, experiment.final)
    assert [table.num_rows for table in tables] == [0] * 5
    assert experiment.epochs.column_names == ["trial", "role", "epoch", "task", "metric", "value"]


def test_what_is_no_experiment(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"is no experiment: it has no space\.yaml and no plan\.json"):
        package.open(tmp_path)


def test_the_examples_of_the_docstrings_hold(search, small_flights, tmp_path, monkeypatch) -> None:
    searched = search("flights", f"{{source: flights, path: {small_flights}}}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").symlink_to(searched.folder)
    (tmp_path / "MODEL").symlink_to(searched.model)
    model = package.load("MODEL")
    schema = json.loads((searched.model / "schema.json").read_text())
    names = [each["name"] for kind in ("numeric", "categorical") for each in schema[kind]]
    table = {name: [None] for name in names}
    results = [
        doctest.DocTestRunner().run(test)
        for thing in (package.load, package.open)
        for test in doctest.DocTestFinder().find(thing, globs={"mtlsearch": package, "table": table})
    ]
    assert [(result.failed, result.attempted > 0) for result in results] == [(0, True), (0, True)]
    assert model.tasks

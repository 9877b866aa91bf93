"""A finished search tells the same numbers wherever one asks: folder, leaderboard, report, W&B, card, predictions."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet
from sklearn.metrics import r2_score, roc_auc_score
from wandb_files import current_files, finished, history, summary, values

import mtlsearch as package
from mtlsearch.data import open_store
from mtlsearch.space import read_experiment
from mtlsearch.train import TensorData, World

TASKS = {"cancelled": "auroc", "dep_late15": "auroc", "arr_delay": "rmse", "air_time": "rmse"}

pytestmark = pytest.mark.slow


@pytest.fixture
def searched(mtlsearch, space_file, tmp_path) -> Path:
    """Flights, single-task baselines, four trials, a final ranking of two on two seeds, W&B offline."""
    out = tmp_path / "out"
    space = space_file(final="{top_k: 2, seeds: 2}", tracking="{wandb: {project: p, mode: offline}}")
    ended = mtlsearch("run", space, "--engine", "local", "--out", out)
    assert ended.code == 0, ended.err
    return out


def test_every_view_of_a_search_tells_the_same_numbers(searched, mtlsearch, tmp_path):
    board = json.loads(mtlsearch("leaderboard", searched, "--format", "json").out)
    rows = {row["trial"]: row for row in board}
    winner = next(row for row in board if row["role"] == "trial" and row["state"] == "COMPLETE")

    _check_folder(searched, rows)
    _check_csv(mtlsearch("leaderboard", searched, "--format", "csv").out, board)
    assert (searched / "leaderboard.csv").read_text() == mtlsearch("leaderboard", searched, "--format", "csv").out
    assert package.open(searched).trials.to_pylist() == board
    _check_report(searched, mtlsearch, board)
    _check_wandb(searched, rows)

    model, found = tmp_path / "MODEL", tmp_path / "found.parquet"
    chosen = package.open(searched).final["trial"][0].as_py()
    assert mtlsearch("export", searched, "--trial", chosen, "--out", model).code == 0
    assert mtlsearch("predict", model, "--split", "test", "--out", found).code == 0
    _check_card((model / "README.md").read_text(), rows[chosen])
    _check_predictions(searched, found, rows[chosen])
    _check_final(searched, mtlsearch, model)
    assert chosen in {row["trial"] for row in board if row["role"] == "trial"}
    assert winner["trial"] == package.open(searched).best["trial"][0].as_py()


def _check_folder(folder: Path, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """The leaderboard's scores are those of the trial's best epoch, and of test.json."""
    for number, row in rows.items():
        trial = folder / "trials" / f"{number:05d}"
        epochs = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        best = max(epochs, key=lambda epoch: epoch["objective"])
        assert row["best_epoch"] == best["epoch"]
        for task, scores in best["validation"].items():
            assert {name: row[f"{task}/{name}"] for name in scores} == scores
        if row["role"] == "trial":
            assert row["objective"] == best["objective"]
        if (trial / "test.json").exists():
            for task, scores in json.loads((trial / "test.json").read_text()).items():
                assert {name: row[f"test/{task}/{name}"] for name in scores} == scores


def _check_csv(text: str, board: list[dict[str, Any]]) -> None:
    for line, row in zip(csv.DictReader(io.StringIO(text)), board, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(line[name]) == value
            else:
                assert line[name] == ("" if value is None else str(value))


def _check_report(folder: Path, mtlsearch: Any, board: list[dict[str, Any]]) -> None:
    """The page's own data, to the digits that it shows, in the leaderboard's order."""
    assert mtlsearch("report", folder).code == 0
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    columns = data["board"]["rows"]["columns"]
    assert _unpacked(columns["trial"], len(board)) == [row["trial"] for row in board]
    shown = ["objective", *(f"{task}/{metric}" for task, metric in TASKS.items())]
    for name in [*shown, *(f"test/{name}" for name in shown[1:])]:
        for value, row in zip(_unpacked(columns[name], len(board)), board, strict=True):
            assert (value is None) == (row[name] is None)
            assert value is None or float(value) == pytest.approx(row[name], rel=1e-3, abs=1e-4)


def _unpacked(column: Any, count: int) -> list[Any]:
    if isinstance(column, list):
        return column
    return [column["same"]] * count if "same" in column else [column["of"][index] for index in column["index"]]


def _check_wandb(folder: Path, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Every epoch's values, every trial's objective and state; the leaderboard's run has the leaderboard."""
    runs = {}
    for path in current_files(folder):
        records = finished(path)
        runs[next(record.run for record in records if record.HasField("run")).run_id.partition("-")[2]] = records
    assert set(runs) == {f"{number:05d}" for number in rows} | {"leaderboard"}
    for number, row in rows.items():
        records = runs[f"{number:05d}"]
        trial = folder / "trials" / f"{number:05d}"
        epochs = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
        for line, epoch in zip(history(records), epochs, strict=True):
            assert line["objective"] == epoch["objective"]
            for task, scores in epoch["validation"].items():
                assert {name: line.get(f"{task}/{name}") for name in scores} == scores
                assert line[f"{task}/train_loss"] == epoch["train_loss"][task]
        ended = summary(records)
        assert (ended["objective"], ended["state"]) == (row["objective"], row["state"])
        for task, scores in epochs[0]["validation"].items():
            assert {name: ended.get(f"{task}/{name}") for name in scores} == {n: row[f"{task}/{n}"] for n in scores}
        if row["state"] == "COMPLETE":
            assert ended["best_epoch"] == row["best_epoch"]
        config = values(next(record.run for record in records if record.HasField("run")).config.update)
        parameters = {name: row[name.replace("/", ".")] for name in config if not name.startswith("_")}
        assert parameters == {name: config[name] for name in parameters}
        assert {"model/kind", "optimizer/lr", "batch_size"} <= parameters.keys()
    tables = [*folder.glob("wandb/offline-run-*/files/media/table/leaderboard*.json")]
    table = json.loads(max(tables, key=lambda path: path.stat().st_mtime).read_text())
    for line, row in zip(table["data"], rows.values(), strict=True):
        found = dict(zip(table["columns"], line, strict=True))
        assert {name: found[name] for name in row} == row


def _check_card(card: str, row: Mapping[str, Any]) -> None:
    for task, metric in TASKS.items():
        line = next(line for line in card.splitlines() if line.startswith(f"| {task} | {metric} "))
        validation, test = (float(cell) for cell in line.split("|")[3:5])
        assert validation == pytest.approx(row[f"{task}/{metric}"], rel=1e-3)
        assert test == pytest.approx(row[f"test/{task}/{metric}"], rel=1e-3)


def _check_predictions(folder: Path, found: Path, row: Mapping[str, Any]) -> None:
    """Scores of the predictions, by scikit-learn, are the leaderboard's."""
    data = TensorData.load(open_store(read_experiment(folder / "space.yaml").data), torch.device("cpu"))
    scaled_PL = torch.cat([batch.labels_PL for batch in data.ordered("test", 4096, World())])
    _, labels = data.targets.unscaled(torch.zeros_like(scaled_PL), scaled_PL)
    predicted = parquet.read_table(found)
    for index, (task, metric) in enumerate(TASKS.items()):
        label_N, score_N = labels[:, index].double(), torch.tensor(predicted[task].to_numpy()).double()
        there = ~label_N.isnan()
        label_N, score_N = label_N[there], score_N[there]
        if metric == "auroc":
            assert roc_auc_score(label_N, score_N) == pytest.approx(row[f"test/{task}/auroc"], abs=1e-6)
        else:
            rmse = math.sqrt((label_N - score_N).square().mean())
            assert rmse == pytest.approx(row[f"test/{task}/rmse"], rel=1e-6)
            assert r2_score(label_N, score_N) == pytest.approx(row[f"test/{task}/r2"], abs=1e-6)


def _check_final(folder: Path, mtlsearch: Any, model: Path) -> None:
    """final.json, the notebook's table, the report and the card."""
    final = json.loads((folder / "final.json").read_text())
    table = [row for row in package.open(folder).final.to_pylist() if row["what"] == "delta"]
    assert [row["trial"] for row in table] == [row["trial"] for row in final["rows"]]
    assert [row["mean"] for row in table] == [row["delta"]["mean"] for row in final["rows"]]
    page, card = (folder / "report.html").read_text(), (model / "README.md").read_text()
    printed = mtlsearch("leaderboard", folder).out
    shown = [(float(mean), float(half)) for mean, half in re.findall(r"([\d.]+) ± ([\d.]+)", page)]
    for task in TASKS:
        found = final["rows"][0]["scores"][task]
        half = found["high"] - found["mean"]
        near = pytest.approx(half, rel=0.1)
        assert any(abs(mean - found["mean"]) < half / 5 and each == near for mean, each in shown)
        assert f"{found['mean']:.5g}" in card
    assert str(final["rows"][0]["trial"]) in printed

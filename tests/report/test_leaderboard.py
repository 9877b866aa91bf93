"""The leaderboard: who stands where, what a row holds, and that every format says the same."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from rich.console import Console

from mtlsearch.config import MMoEExConfig, SharedBottomConfig, TrialConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import EpochMetrics, State, TrialOrder, TrialRecord
from mtlsearch.report import Leaderboard, read_leaderboard, terminal_table

FOUR = ("cancelled", "dep_late15", "arr_delay", "air_time")
REASONS = (
    "plain",
    "a, b",
    'it says "no"',
    "two\nlines\r\nand more",
    "Übermut · Δ",
    "",
    " blank ",
    "None",
    "1.5",
    "=1+1",
)


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    return ExperimentFolder.create(tmp_path / "out", "", {"overrides": []}, "{}")


@pytest.fixture
def add(folder: ExperimentFolder) -> Callable[..., TrialRecord]:
    """`add(number, state, objectives)` writes a trial's files and returns its record."""

    def write(number: int, state: State, objectives: tuple[float, ...] = (), **changed: Any) -> TrialRecord:
        trial, tasks = folder.trial(number), changed.pop("tasks", FOUR)
        test = changed.pop("test", None)
        config = changed.pop("config", TrialConfig(model=SharedBottomConfig(hidden=32 + number)))
        role = changed.get("role", "trial")
        trial.begin(TrialOrder(number=number, role=role, config=config, seed=1, epochs=3, tasks=tasks, metric="delta"))
        for epoch, objective in enumerate(objectives, start=1):
            trial.append(_epoch(epoch, objective, tasks))
        if test is not None:
            trial.test.write_text(json.dumps(test))
        value = {"COMPLETE": max(objectives, default=None), "PRUNED": objectives[-1] if objectives else None}
        record = {"number": number, "role": "trial", "state": state, "params": {}, "value": value.get(state)}
        return TrialRecord(**{**record, "reason": f"why {number}", **changed})

    return write


def _epoch(epoch: int, objective: float, tasks: tuple[str, ...]) -> EpochMetrics:
    regressions = ("arr_delay", "air_time")
    return EpochMetrics(
        epoch=epoch,
        objective=objective,
        validation={task: {"rmse": 10 + objective} if task in regressions else {"auroc": objective} for task in tasks},
        train_loss={},
        task_weights={},
        learning_rate=1e-3,
        grad_norm=1.0,
        seconds=1.5,
        samples_per_second=100.0,
    )


def _csv(board: Leaderboard) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(board.csv(), newline="")))


def _shown(board: Leaderboard, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(terminal_table(board, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


# Rank ------------------------------------------------------------------------------------------------------------


def test_complete_then_pruned_then_failed_then_running_each_best_first(folder, add):
    records = [
        add(0, "COMPLETE", (0.0,), role="baseline", tasks=("cancelled",)),
        add(1, "RUNNING", (0.99,)),
        add(2, "FAIL", (0.98,)),
        add(3, "PRUNED", (0.9, 0.6)),
        add(4, "COMPLETE", (0.5, 0.7)),
        add(5, "COMPLETE", (0.8,)),
        add(6, "PRUNED", (0.65,)),
        add(7, "COMPLETE", (0.7,)),
        add(8, "PRUNED"),
    ]
    board = read_leaderboard(folder, records)
    assert [row["trial"] for row in board.rows] == [5, 4, 7, 0, 6, 3, 8, 2, 1]


# Rows ------------------------------------------------------------------------------------------------------------


def test_columns_in_their_order(folder, add):
    test = {"cancelled": {"auroc": 0.7}}
    board = read_leaderboard(folder, [add(0, "COMPLETE", (0.5,), tasks=("cancelled", "arr_delay"), test=test)])
    assert board.columns[:7] == (
        *("trial", "role", "state", "objective"),
        *("cancelled/auroc", "arr_delay/rmse", "test/cancelled/auroc"),
    )
    assert board.columns[7:9] == ("model.kind", "model.hidden")
    assert board.columns[-4:] == ("epochs", "best_epoch", "seconds", "reason")


def test_a_complete_trial_shows_its_best_epoch_and_a_pruned_one_its_last(folder, add):
    complete, pruned = add(0, "COMPLETE", (0.5, 0.7, 0.6)), add(1, "PRUNED", (0.5, 0.7, 0.6))
    rows = {row["trial"]: row for row in read_leaderboard(folder, [complete, pruned]).rows}
    assert [rows[0][name] for name in ("objective", "cancelled/auroc", "epochs", "best_epoch", "seconds")] == [
        *(0.7, 0.7, 3, 2, 4.5)
    ]
    assert [rows[1][name] for name in ("objective", "cancelled/auroc", "epochs", "best_epoch")] == [0.6, 0.6, 3, 2]


def test_of_equal_epochs_the_earliest_is_the_best(folder, add):
    board = read_leaderboard(folder, [add(0, "COMPLETE", (0.5, 0.7, 0.7))])
    assert board.rows[0]["best_epoch"] == 2


def test_every_row_has_every_column(folder, add):
    mmoeex = TrialConfig(model=MMoEExConfig(alpha=0.25))
    board = read_leaderboard(folder, [add(0, "COMPLETE", (0.5,)), add(1, "COMPLETE", (0.6,), config=mmoeex)])
    assert [row["model.alpha"] for row in board.rows] == [0.25, None]
    assert {tuple(row) for row in board.rows} == {board.columns}


def test_a_trial_that_has_just_begun_has_a_row(folder):
    record = TrialRecord(number=0, role="trial", state="RUNNING", params={}, value=None, reason="")
    board = read_leaderboard(folder, [record])
    first = {"trial": 0, "role": "trial", "state": "RUNNING", "objective": None}
    assert board.rows == (first | {"epochs": 0, "best_epoch": None, "seconds": 0, "reason": ""},)


def test_an_epoch_without_a_number_does_not_hide_the_others(folder, add):
    records = [add(0, "FAIL", (0.5, math.nan)), add(1, "COMPLETE", (0.4,))]
    board = read_leaderboard(folder, records)
    assert [row["trial"] for row in board.rows] == [1, 0]
    assert json.loads(board.json())[1]["cancelled/auroc"] is None
    assert _csv(board)[1]["cancelled/auroc"] == "nan"


# Formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_comes_back_as_it_was(folder, add, reason):
    board = read_leaderboard(folder, [add(0, "FAIL", (), reason=reason), add(1, "COMPLETE", (0.1,), reason="x")])
    assert _csv(board)[1]["reason"] == reason
    assert json.loads(board.json())[1]["reason"] == reason
    assert board.table().column("reason").to_pylist()[1] == reason


def test_all_formats_hold_the_same(folder, add):
    mmoeex = TrialConfig(model=MMoEExConfig(alpha=1 / 3))
    board = read_leaderboard(
        folder,
        [
            add(0, "COMPLETE", (0.0,), role="baseline", tasks=("arr_delay",)),
            add(1, "COMPLETE", (0.1 + 0.2, 1 / 7), test={"cancelled": {"auroc": 2 / 3}}),
            add(2, "PRUNED", (-1e-300,), config=mmoeex),
            add(3, "FAIL"),
        ],
    )
    board.write(folder)
    assert folder.leaderboard.read_text() == board.csv()
    rows = json.loads(board.json())
    assert rows == [*board.rows]
    assert parquet.read_table(folder.leaderboard.with_suffix(".parquet")).to_pylist() == rows
    assert [{name: _plain(value) for name, value in row.items()} for row in _csv(board)] == [
        {name: _plain("" if value is None else str(value)) for name, value in row.items()} for row in rows
    ]


def _plain(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def test_a_column_of_numbers_and_words_becomes_words():
    first: Mapping[str, Any] = {"inner": "full", "count": 1, "flag": True, "none": None}
    second: Mapping[str, Any] = {"inner": 0.5, "count": 1.5, "flag": None, "none": None}
    table = Leaderboard((dict(first), dict(second))).table()
    assert table.column("inner").to_pylist() == ["full", "0.5"]
    assert table.column("count").to_pylist() == [1.0, 1.5]
    assert table.column("flag").to_pylist() == [True, None]
    assert table.column("none").to_pylist() == [None, None]


# On the terminal -------------------------------------------------------------------------------------------------


@pytest.fixture
def board(folder, add) -> Leaderboard:
    """Twelve trials of four tasks with their baselines, one pruned."""
    baselines = [
        add(number, "COMPLETE", (0.8 + number / 97,), role="baseline", tasks=(task,), value=0.0)
        for number, task in enumerate(FOUR)
    ]
    trials = [add(number, "COMPLETE", (0.9 - number / 89,)) for number in range(4, 15)]
    return read_leaderboard(folder, [*baselines, *trials, add(15, "PRUNED", (-0.0123456,))])


def test_four_tasks_fit_on_80_columns(board):
    lines = _shown(board, 80)
    assert [*lines[:4], *lines[-1:]] == [
        "                                                        dep_   arr_",
        "                                           cancelled  late15  delay  air_time",
        "trial  model          state     objective      auroc   auroc   rmse      rmse",
        "    4  shared_bottom  COMPLETE     0.8551     0.8551  0.8551  10.86     10.86",
        "       baselines                        0        0.8  0.8103  10.82     10.83",
    ]


def test_a_wide_terminal_shows_the_parameters_that_differ(board):
    lines = _shown(board, 120)
    assert lines[2].split()[-1] == "hidden"
    assert lines[3].split() == ["4", "shared_bottom", "COMPLETE", *3 * ["0.8551"], "10.86", "10.86", "36"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_number_is_cut_short(board, width):
    lines = _shown(board, width)
    assert "…" not in "".join(lines)
    numbers = [word for line in lines for word in line.split() if re.match(r"-?\d", word)]
    assert set(numbers) >= {"0.8551", "4"}
    assert all(len(word) <= 8 for word in numbers)


def test_tasks_that_do_not_fit_are_counted(board):
    lines = _shown(board, 60)
    assert lines[-1] == "2 more tasks are in leaderboard.csv"
    assert max(map(len, lines)) <= 60


def test_ten_trials_and_the_baselines(board):
    assert [line.split()[0] for line in _shown(board, 80)[3:]] == [*map(str, range(4, 14)), "baselines"]

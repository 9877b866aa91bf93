"""What the pictures are drawn from, number by number, and that each becomes a PNG without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest_report import HOSTILE, MadeUp, binary_tasks

from mtlsearch.config import Task
from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.charts import charts
from mtlsearch.report.experiment import Facts, main_score, read_experiment_facts
from mtlsearch.report.html import by_columns, embeddable
from mtlsearch.report.parallel import ABSENT
from mtlsearch.report.pareto import pareto_front
from mtlsearch.report.png import write_pngs
from mtlsearch.report.tables import MOST_TASKS, Tables

NAMES = {"history", "states", "parallel", "importance", "scatter", "delta_heatmap", "curves", "diversity", "gates"}
NAMES |= {"parameters", "parameters_experts", "parameters_kind"}
TASKS = (
    Task(name="a", kind="binary"),
    Task(name="b", kind="regression", unit="minutes"),
    Task(name=HOSTILE, kind="binary"),
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    path = tmp_path_factory.mktemp("charts") / "out"
    return read_experiment_facts(MadeUp(path, TASKS, epochs=4).write(["COMPLETE"] * 14 + ["PRUNED"] * 5 + ["FAIL"]))


def rows(facts: Facts, table: str) -> list[dict[str, Any]]:
    return Tables(facts).named()[table]


def close(value: float) -> Any:
    return pytest.approx(value, rel=1e-4)


def test_every_picture_has_its_data_with_it(facts: Facts) -> None:
    found = charts(facts)
    assert set(found) == NAMES
    for chart in found.values():
        spec = chart.to_dict()
        assert all(spec["datasets"].values())
        assert "url" not in str(spec)


def test_trials_are_the_leaderboard(facts: Facts) -> None:
    by_number = {row["trial"]: row for row in rows(facts, "trials")}
    board = [row for row in facts.board.rows if row["role"] == "trial"]
    assert len(by_number) == len(board) == 20
    for rank, row in enumerate(board, start=1):
        drawn = by_number[row["trial"]]
        assert (drawn["rank"], drawn["state"], drawn["epochs"]) == (rank, row["state"], row["epochs"])
        assert drawn["reason"] == row["reason"]
        if row["objective"] is None:
            assert drawn["objective"] is None
        else:
            assert drawn["objective"] == close(row["objective"])
            assert [drawn["s0"], drawn["s1"], drawn["s2"]] == [
                close(row[name]) for name in ("a/auroc", "b/rmse", f"{HOSTILE}/auroc")
            ]


def test_best_so_far_is_of_complete_trials_only(facts: Facts) -> None:
    best = None
    for row in rows(facts, "trials"):
        if row["state"] == "COMPLETE":
            best = row["objective"] if best is None else max(best, row["objective"])
        assert row["best"] == best


def test_epochs_are_metrics_jsonl(facts: Facts) -> None:
    drawn = {(row["trial"], row["epoch"]): row for row in rows(facts, "epochs") if row["role"] == "trial"}
    measured = [(trial.number, epoch) for trial in facts.of_role("trial") for epoch in trial.epochs]
    assert len(drawn) == len(measured)
    for number, metrics in measured:
        assert drawn[number, metrics.epoch]["objective"] == close(metrics.objective)
        assert drawn[number, metrics.epoch]["s1"] == close(metrics.validation["b"]["rmse"] or 0.0)


def test_gains_are_of_the_best_trials(facts: Facts) -> None:
    drawn = {(row["name"].split()[0], row["task"]): row["gain"] for row in rows(facts, "gains")}
    for trial in facts.ranked():
        for index, task in enumerate(facts.tasks):
            gains = facts.gains(trial)
            assert (str(trial.number), index) in drawn if gains else (str(trial.number), index) not in drawn
            if gains:
                assert drawn[str(trial.number), index] == close(gains[task.name])


def test_a_lower_rmse_is_the_better_one_on_the_front(facts: Facts) -> None:
    trials = [trial for trial in facts.ranked() if trial.record.state == "COMPLETE"]
    points = {trial.number: [main_score(task, trial) or 0.0 for task in facts.tasks] for trial in trials}

    def beats(one: list[float], other: list[float]) -> bool:
        pairs = [(one[0], other[0]), (-one[1], -other[1]), (one[2], other[2])]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    wanted = {number for number, own in points.items() if not any(beats(other, own) for other in points.values())}
    assert pareto_front(facts.tasks, facts.ranked()) == wanted
    assert 0 < len(wanted) < len(trials)
    assert {row["trial"] for row in rows(facts, "trials") if row["front"]} == wanted


def test_the_inside_is_model_json(facts: Facts) -> None:
    distances = rows(facts, "distance")
    gates = rows(facts, "gates")
    for number in {row["trial"] for row in distances}:
        model = facts.trials[number].model
        assert model is not None
        assert model.expert_distance is not None
        drawn = {(row["one"], row["other"]): row["distance"] for row in distances if row["trial"] == number}
        assert len(drawn) == len(model.expert_distance) ** 2
        assert all(drawn[i, j] == close(model.expert_distance[i][j]) for i, j in drawn)
        closed = {(row["task"], row["expert"]) for row in gates if row["trial"] == number and row["closed"]}
        assert closed == {(task, 0) for task in range(3)}


def test_places_on_the_parallel_axes(facts: Facts) -> None:
    tables = Tables(facts)
    axes = {axis.name: f"p{axis.index}" for axis in tables.axes}
    assert {"model.kind", "model.alpha", "optimizer.lr", "objective"} <= set(axes)
    drawn = {row["trial"]: row for row in tables.trials()}
    for trial in facts.of_role("trial"):
        row = drawn[trial.number]
        has_alpha = "model.alpha" in trial.parameters
        assert (row[axes["model.alpha"]] == ABSENT) != has_alpha
        assert all(row[column] is None or row[column] == ABSENT or 0 <= row[column] <= 1 for column in axes.values())
    rates = {trial.number: trial.parameters["optimizer.lr"] for trial in facts.of_role("trial")}
    in_order = sorted(rates, key=lambda number: float(rates[number] or 0.0))
    places = [drawn[number][axes["optimizer.lr"]] for number in in_order]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)


def test_of_many_tasks_those_in_which_trials_differ_most(tmp_path: Path) -> None:
    facts = read_experiment_facts(MadeUp(tmp_path / "out", binary_tasks(40), epochs=1).write(["COMPLETE"] * 4))
    tables = Tables(facts)
    assert len(tables.tasks) == MOST_TASKS

    def spread(name: str) -> float:
        gains = [facts.gains(trial)[name] for trial in facts.of_role("trial")]
        return max(gains) - min(gains)

    left_out = [task for task in facts.tasks if task not in tables.tasks]
    assert min(spread(task.name) for task in tables.tasks) >= max(spread(task.name) for task in left_out)


@pytest.mark.slow
def test_every_picture_becomes_a_png(facts: Facts, tmp_path: Path) -> None:
    paths = write_pngs(charts(facts), tmp_path / "plots")
    assert {path.stem for path in paths} == NAMES
    for path in paths:
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        assert min(width, height) > 200


def test_numbers_that_json_lacks_are_left_out(tmp_path: Path) -> None:
    folder: ExperimentFolder = MadeUp(tmp_path / "out", binary_tasks(2), epochs=2).write(["COMPLETE"])
    broken = folder.trial(2).epochs()[0].model_copy(update={"epoch": 3, "objective": float("nan")})
    folder.trial(2).append(broken)
    assert rows(read_experiment_facts(folder), "epochs")[-1]["objective"] is None


def test_what_is_embedded_ends_no_script() -> None:
    text = embeddable({"</script><!--": "<script>\u2028"})
    assert "<" not in text
    assert "\u2028" not in text
    with pytest.raises(ValueError, match="JSON compliant"):
        embeddable(float("nan"))


def test_columns_are_written_once() -> None:
    assert by_columns([{"a": 1, "b": "x"}, {"a": 2, "b": "x"}, {"a": 3, "b": "x", "c": 1}]) == {
        "length": 3,
        "columns": {"a": [1, 2, 3], "b": {"same": "x"}, "c": [None, None, 1]},
    }
    assert by_columns([{"a": text} for text in "xyxyx"])["columns"] == {
        "a": {"of": ["x", "y"], "index": [0, 1, 0, 1, 0]}
    }
    assert by_columns([]) == {"length": 0, "columns": {}}

"""What the pictures are drawn from, number by number, and that each becomes a PNG without a browser."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from conftest_report import HOSTILE, MadeUp, binary_tasks

from mtlsearch.config import Task
from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.charts import charts, draw
from mtlsearch.report.experiment import Facts, read_experiment_facts
from mtlsearch.report.html import by_columns, embeddable
from mtlsearch.report.parallel import ABSENT
from mtlsearch.report.png import write_pngs
from mtlsearch.report.tables import MOST_TASKS, Row, Tables, short, spaced

pytestmark = pytest.mark.slow

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


EPOCHS: list[Row] = [
    {
        "trial": trial,
        "role": "trial",
        "epoch": epoch,
        "objective": 0.1 * epoch + 0.01 * trial,
        "s0": 0.7,
        "s1": 2.0,
        "s2": 0.7,
    }
    for trial in (3, 4, 5)
    for epoch in (1, 2, 3, 4)
]


def svg(facts: Facts, name: str, **tables: list[Row]) -> str:
    """A chart as Vega draws it, with these tables in place of the experiment's."""
    made = Tables(facts)
    named = made.named() | tables
    chart = draw(made, named)[name]
    return str(vl_convert.vegalite_to_svg(chart.properties(datasets=named).to_json()))


def axis_labels(drawn: str, axis: str) -> list[str]:
    part = drawn.split(f'aria-label="{axis}-axis')[1].split("role-axis-title")[0].split("role-axis-label")[1]
    return re.findall(r">([^<]+)</text>", part.split("role-axis-domain")[0])


def point(number: int, x: float, y: float, **changed: Any) -> Row:
    row = {"trial": number, "name": f"{number} mmoe", "model": "mmoe", "state": "COMPLETE", "objective": x, "best": x}
    return (
        row
        | {"epochs": 1, "reason": "", "s0": x, "s1": y, "s2": 0.5, "expert": None, "alpha": None, "num_experts": None}
        | changed
    )


def ringed(drawn: str) -> list[tuple[float, float]]:
    rings = re.findall(r'aria-label="x: ([\d.]+); y: ([\d.]+)" [^>]*="point" [^>]*stroke="#D55E00"', drawn)
    return sorted((float(x), float(y)) for x, y in rings)


def test_only_what_nothing_dominates_is_on_the_front(tmp_path: Path) -> None:
    facts = read_experiment_facts(MadeUp(tmp_path / "out", binary_tasks(3), epochs=1).write(["COMPLETE"]))
    scores = [(0.9, 0.8), (0.8, 0.8), (0.7, 0.8), (0.6, 0.9), (0.6, 0.7), (0.9, 0.6)]
    trials = [point(number, *score) for number, score in enumerate(scores)]
    assert ringed(svg(facts, "scatter", trials=trials)) == [(0.6, 0.9), (0.9, 0.8)]
    trials += [point(6, 0.9, 0.8), point(7, 0.95, 0.95, state="PRUNED")]  # the same place; not trained to the end
    assert ringed(svg(facts, "scatter", trials=trials)) == [(0.6, 0.9), (0.9, 0.8)]


def test_a_lower_rmse_is_the_better_one_on_the_front(facts: Facts) -> None:
    trials = [point(0, 0.9, 5.0), point(1, 0.9, 4.0), point(2, 0.8, 4.0), point(3, 0.7, 3.0), point(4, 0.6, 6.0)]
    assert ringed(svg(facts, "scatter", trials=trials)) == [(0.7, 3.0), (0.9, 4.0)]


@pytest.mark.parametrize("last", [1, 2, 3, 5])
def test_whole_numbers_are_written_once_on_an_axis(facts: Facts, last: int) -> None:
    epochs = [row for row in rows(facts, "epochs") if row["epoch"] <= last]
    labels = axis_labels(svg(facts, "curves", epochs=epochs), "X")
    assert len(set(labels)) == len(labels)
    assert set(labels) <= set(map(str, range(1, last + 1)))
    trials = [point(number, 0.5, 0.5, num_experts=3 + number % 2) for number in range(4)]
    assert axis_labels(svg(facts, "parameters_experts", trials=trials), "X") == ["3", "4"]
    few = [point(number, 0.5 + number / 10, 0.5) for number in range(2)]
    assert axis_labels(svg(facts, "history", trials=few), "X") == ["0", "1"]
    assert axis_labels(svg(facts, "states", trials=few), "Y") == ["0", "1", "2"]


def test_failed_trials_are_in_the_history_with_their_reason(facts: Facts) -> None:
    assert rows(facts, "trials")[-1]["state"] == "FAIL"
    trials = [point(1, 0.5, 0.5), point(2, 0.5, 0.5, state="FAIL", objective=None, reason="out of memory")]
    drawn = svg(facts, "history", trials=[*trials, point(3, 0.5, 0.5, state="RUNNING", objective=None)])
    assert "out of memory" in drawn
    assert ">FAIL<" in drawn
    assert ">RUNNING<" not in drawn  # nothing to place yet


def test_every_loss_is_marked_however_small(facts: Facts) -> None:
    gains = [{"rank": 1, "name": "1 mmoe", "task": i, "gain": gain} for i, gain in enumerate((-0.0002, -0.23, 0.0))]
    gains += [{"rank": 2 + i, "name": f"{2 + i} mmoe", "task": 0, "gain": 0.01} for i in range(40)]
    drawn = svg(facts, "delta_heatmap", gains=gains)
    assert "▼ −0.0%" in drawn
    assert "▼ −23.0%" in drawn
    assert "▼ +" not in drawn
    assert "≤ −1.0%" in drawn  # the scale ends before −23 %, and says so
    assert "≥ +1.0%" in drawn
    assert str(short(-0.0)) == "0.0"


@pytest.mark.parametrize("name", ["diversity", "gates"])
def test_a_picture_of_experts_says_whose_they_are(facts: Facts, name: str) -> None:
    shown = Tables(facts).mixtures[0]
    assert f"trial {shown.number} mmoeex" in svg(facts, name)


def test_one_wild_epoch_does_not_flatten_the_learning_curves(facts: Facts) -> None:
    epochs = [{**row, "objective": -1e6 if index == 5 else row["objective"]} for index, row in enumerate(EPOCHS)]
    labels = axis_labels(svg(facts, "curves", epochs=epochs), "Y")
    assert max(abs(float(label.replace("−", "-"))) for label in labels) < 5


def test_few_epochs_of_a_trial_are_evenly_spaced_with_both_ends(facts: Facts) -> None:
    epoch = facts.of_role("trial")[0].epochs[0]
    long = [epoch.model_copy(update={"epoch": number}) for number in range(1, 61)]
    kept = [one.epoch for one in spaced(long, 10)]
    assert (len(kept), kept[0], kept[-1]) == (10, 1, 60)
    assert {later - earlier for earlier, later in pairwise(kept)} <= {6, 7}
    assert spaced(long[:10], 10) == long[:10]


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

"""What the page says in words: the search, the final ranking, why trials ended; escaped, whatever it is."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from html import escape
from pathlib import Path

import pytest
from conftest_report import HOSTILE, MadeUp, binary_tasks

from mtlsearch.config import Task
from mtlsearch.report.charts import draw
from mtlsearch.report.experiment import Facts, read_experiment_facts
from mtlsearch.report.final import FinalRanking, FinalRow
from mtlsearch.report.sections import Section, sections
from mtlsearch.report.statistics import Interval
from mtlsearch.report.tables import Tables

TASKS = (Task(name="a", kind="binary"), Task(name=HOSTILE, kind="binary"))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    path = tmp_path_factory.mktemp("sections") / "out"
    made = MadeUp(path, TASKS, epochs=3, reason=f"hyperband: {HOSTILE}")
    return read_experiment_facts(made.write(["COMPLETE", "PRUNED", "PRUNED", "FAIL", "RUNNING"]))


def section(facts: Facts, name: str) -> Section:
    tables = Tables(facts)
    return next(part for part in sections(tables, draw(tables, tables.named())) if part.id == name)


def cells(markup: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", markup)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_what_was_searched(facts: Facts) -> None:
    body = section(facts, "searched").body
    for said in (
        "flights: 1,000 train, 1,000 validation, 1,000 test rows",
        "sampler tpe, pruner hyperband, seed",
        "500 trials of at most 10 epochs",
        "5 started: 1 complete, 2 pruned, 1 fail, 1 running",
        "model.mmoeex.alpha",
        escape("alpha * num_experts < num_experts"),
        "torch 2.13",
        "of training, all trials together",
    ):
        assert said in body
    assert HOSTILE not in body
    assert escape(HOSTILE) in body


def test_why_trials_ended_is_told_by_kind_of_reason(facts: Facts) -> None:
    rows = cells(section(facts, "states").body)
    assert rows[0][:4] == ["state", "trials", "epochs", "which"]
    by_state = {row[0]: row for row in rows[1:]}
    assert by_state["PRUNED"][1:4] == ["2", "1–2", "3, 4"]
    assert by_state["PRUNED"][4] == escape(f"hyperband: {HOSTILE}")
    assert by_state["FAIL"][2] == "0"


def test_reasons_that_differ_in_their_numbers_are_one_kind(facts: Facts) -> None:
    said = ["loss is nan at epoch 3, lr 1.2e-05", "loss is nan at epoch 14, lr 0.1", "out of memory: 7 GiB"]
    trials = facts.of_role("trial")[: len(said)]
    changed = {
        trial.number: dataclasses.replace(trial, record=dataclasses.replace(trial.record, state="FAIL", reason=reason))
        for trial, reason in zip(trials, said, strict=True)
    }
    head, *rows = cells(section(dataclasses.replace(facts, trials={**facts.trials, **changed}), "states").body)
    assert head[4] == "reason (of the first)"
    assert [(row[1], row[4]) for row in rows if row[4] in said] == [("2", said[0]), ("1", said[2])]


def test_what_is_fixed_in_some_models_only_says_whose_it_is(facts: Facts) -> None:
    kinds = {trial.parameters["model.kind"] for trial in facts.of_role("trial")}
    assert kinds == {"shared_bottom", "mmoeex"}
    fixed = re.findall(r"<dt>fixed</dt><dd>(.*?)</dd>", section(facts, "searched").body)[0]
    assert re.search(r"model\.\w+ = \S+ \(mmoeex only\)", fixed)
    assert re.search(r"optimizer\.kind = adamw(,|$)", fixed)


def test_a_long_search_says_of_which_trials_it_shows_every_epoch(tmp_path: Path, facts: Facts) -> None:
    assert "Every epoch" not in section(facts, "curves").note
    made = MadeUp(tmp_path / "out", binary_tasks(1), epochs=12)
    many = read_experiment_facts(made.write(["COMPLETE"] * 52))
    assert "Every epoch of the best 50 trials; of each other trial 10" in section(many, "curves").note
    tables = Tables(many)
    shown = Counter(row["trial"] for row in tables.epochs())
    assert [shown[trial.number] for trial in tables.ranked] == [12] * 50 + [10] * 2


def final(**changed: object) -> FinalRanking:
    scores = {"a": Interval(0.8, 0.79, 0.81, 5), HOSTILE: Interval(0.7, None, None, 1)}
    best = FinalRow(2, scores, Interval(0.1, 0.05, 0.15, 5), None, False, {}, (), None)
    tied = dataclasses.replace(best, p_value=0.25, tied=True)
    behind = dataclasses.replace(best, p_value=0.01, negative_transfer=(HOSTILE,))
    ranking = FinalRanking((best, tied, behind), scores, 5, True, "delta", {"a": "auroc", HOSTILE: "auroc"}, (HOSTILE,))
    return dataclasses.replace(ranking, **changed)


def test_the_final_ranking(facts: Facts) -> None:
    part = section(dataclasses.replace(facts, final=final()), "final")
    head, *rows = cells(part.body)
    assert head == ["", "model", "Δ", "p (Holm)", "verdict", "a auroc", escape(f"{HOSTILE} auroc")]
    assert rows[0][2:] == ["0.100 ± 0.050", "", "best", "0.800 ± 0.010", "0.7"]
    assert rows[1][3:5] == ["0.250", "tied with the best"]
    assert rows[2][3:5] == ["0.010", f"behind the best; negative transfer: {escape(HOSTILE)}"]
    assert rows[3] == ["", "baselines", "", "", "", "0.800 ± 0.010", "0.7"]
    assert escape(HOSTILE) in part.body
    assert HOSTILE not in part.body
    assert "Not all" not in part.note


def test_a_final_ranking_by_another_objective_that_still_runs(facts: Facts) -> None:
    part = section(dataclasses.replace(facts, final=final(metric="mean", complete=False)), "final")
    head, *rows = cells(part.body)
    assert head[2:4] == ["mean", "Δ"]
    assert all(len(row) == len(head) for row in rows)
    assert "Not all of these trials have ended" in part.note


@pytest.mark.parametrize(
    ("half", "said"),
    [(0.00531, "36.5712 ± 0.0053"), (0.2, "36.57 ± 0.20"), (123.0, "37 ± 123"), (0.0, "36.57 ± 0")],
)
def test_a_mean_has_the_digits_that_its_interval_leaves_it(facts: Facts, half: float, said: str) -> None:
    scores = {"a": Interval(36.57123, 36.57123 - half, 36.57123 + half, 5)}
    row = FinalRow(2, scores, None, None, False, {}, (), None)
    part = section(dataclasses.replace(facts, final=final(rows=(row,))), "final")
    assert cells(part.body)[1][5] == said


def test_no_final_ranking_says_why(facts: Facts) -> None:
    assert "no `final:` section" in section(facts, "final").empty


def test_before_the_first_trial(tmp_path: Path) -> None:
    facts = read_experiment_facts(MadeUp(tmp_path / "out", binary_tasks(2), baselines=False).write([]))
    assert section(facts, "leaderboard").empty == "No trial has been started yet."
    assert "none started yet" in section(facts, "searched").body
    assert section(facts, "states").body == ""

"""`final:` and `search: {warm_start: DIR}` from the command line, in this process."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.session import Session
from mtlsearch.search import read_records

TASKS = ("cancelled", "dep_late15", "arr_delay", "air_time")
METRICS = dict(zip(TASKS, ("auroc", "auroc", "rmse", "rmse"), strict=True))
FINAL = "{top_k: 2, seeds: 3}"


pytestmark = pytest.mark.slow


@pytest.fixture
def out(mtlsearch, space_file, tmp_path) -> Path:
    """The folder of a finished search with a final ranking: 4 baselines, 4 trials, then 3 · (4 + 2) final trials."""
    folder = tmp_path / "out"
    ended = mtlsearch("run", space_file(final=FINAL), "--engine", "local", "--out", folder)
    assert ended.code == 0, ended.err
    return folder


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _order(folder: Path, number: int) -> dict[str, Any]:
    return json.loads((folder / "trials" / f"{number:05d}" / "order.json").read_text())


# The final ranking -----------------------------------------------------------------------------------------------


def test_the_final_trials_are_rows_of_the_leaderboard_scored_on_test(out):
    rows = _rows((out / "leaderboard.csv").read_text())
    assert [row["role"] for row in rows] == 4 * ["trial"] + 4 * ["baseline"] + 18 * ["final"]
    best = [row["trial"] for row in rows[:2]]
    finals = rows[8:]
    assert [(row["candidate"], row["repeat"]) for row in finals] == [
        (candidate, str(repeat)) for repeat in range(3) for candidate in ["", "", "", "", *best]
    ]
    assert all(row["state"] == "COMPLETE" and row["epochs"] == "2" for row in finals)
    assert all(row["test/air_time/rmse"] for row in finals if row["candidate"])
    for row in finals:
        order = _order(out, int(row["trial"]))
        assert (order["candidate"], order["repeat"]) == (
            int(row["candidate"]) if row["candidate"] else None,
            int(row["repeat"]),
        )
    seeds = {_order(out, int(row["trial"]))["seed"] for row in finals}
    assert len(seeds) == 3
    assert seeds.isdisjoint(_order(out, int(row["trial"]))["seed"] for row in rows[:8])


def test_a_candidate_is_trained_with_its_own_configuration_and_the_searchs_reference(out):
    for row in _rows((out / "leaderboard.csv").read_text()):
        if row["candidate"]:
            again, before = _order(out, int(row["trial"])), _order(out, int(row["candidate"]))
            assert {name for name in again if again[name] != before[name]} == {
                *("number", "role", "seed", "candidate", "repeat")
            } - ({"repeat"} if row["repeat"] == "0" else set())


def test_final_json_agrees_with_the_test_scores_number_by_number(out):
    found = json.loads((out / "final.json").read_text())
    rows = _rows((out / "leaderboard.csv").read_text())[8:]
    base = {
        (task, row["repeat"]): float(row[f"test/{task}/{METRICS[task]}"])
        for row in rows
        for task in TASKS
        if not row["candidate"] and row[f"test/{task}/{METRICS[task]}"]
    }
    assert len(base) == 12
    for task in TASKS:
        assert found["baselines"][task]["mean"] == pytest.approx(fmean(base[task, str(r)] for r in range(3)))
    for each in found["rows"]:
        own = [row for row in rows if row["candidate"] == str(each["trial"])]
        deltas = []
        for row in own:
            gains = []
            for task in TASKS:
                ours, theirs = float(row[f"test/{task}/{METRICS[task]}"]), base[task, row["repeat"]]
                gains.append((ours - theirs) / theirs * (-1 if METRICS[task] == "rmse" else 1))
            deltas.append(fmean(gains))
        assert each["delta"]["mean"] == pytest.approx(fmean(deltas))
        assert each["scores"]["air_time"]["mean"] == pytest.approx(
            fmean(float(row["test/air_time/rmse"]) for row in own)
        )
    assert found["rows"][0]["delta"]["mean"] >= found["rows"][1]["delta"]["mean"]
    assert found["complete"]


def test_run_and_leaderboard_print_it_and_machine_formats_stay_parseable(mtlsearch, space_file, tmp_path):
    out = tmp_path / "out"
    ended = mtlsearch("run", space_file(final=FINAL), "--engine", "local", "--out", out)
    lines = ended.out.splitlines()
    assert lines[1] == (
        "small: 4 single-task baselines, then up to 4 trials, then up to 18 trials for the final ranking"
    )
    assert sum("again, seed 3) COMPLETE" in line for line in lines) == 6
    assert any("[final 18/18]" in line for line in lines)
    title = "final ranking: 3 fresh seeds, on test; ± is half of a 95 % interval; p is Holm's, against the best"
    assert title in lines
    assert " on test: " not in ended.out  # what one seed of the winner gave tells less
    table = mtlsearch("leaderboard", out).out.splitlines()
    assert table[table.index(title) :] == lines[lines.index(title) : -1]
    assert mtlsearch("leaderboard", out, "--format", "csv").out == (out / "leaderboard.csv").read_text()
    rows = json.loads(mtlsearch("leaderboard", out, "--format", "json").out)
    assert [row["role"] for row in rows].count("final") == 18


def test_the_plan_counts_the_final_trials(mtlsearch, space_file):
    ended = mtlsearch("run", space_file(final=FINAL), "--dry-run")
    assert "final: the 2 best trials and 4 baselines again on 3 fresh seeds: up to 18 trials more\n" in ended.out
    few = mtlsearch("run", space_file(final="{}"), "--dry-run", "--trials", 2)
    assert "final: the 3 best trials and 4 baselines again on 5 fresh seeds: up to 30 trials more\n" in few.out


@pytest.mark.parametrize("final", ["{top_k: 0}", "{seeds: 0}", "{topk: 3}", "3"])
def test_a_wrong_section_is_named_with_its_line(mtlsearch, space_file, final):
    ended = mtlsearch("run", space_file(final=final), "--dry-run")
    assert ended.code == 2
    assert "small.yaml:6:" in ended.err


def test_another_objective_gets_its_baselines_for_the_ranking(mtlsearch, space_file, tmp_path):
    out = tmp_path / "out"
    file = space_file(objective="air_time/rmse", final="{top_k: 1, seeds: 2}", budget="{trials: 2, epochs: 1}")
    ended = mtlsearch("run", file, "--engine", "local", "--out", out)
    assert ended.code == 0, ended.err
    found = json.loads((out / "final.json").read_text())
    (row,) = found["rows"]
    assert row["objective"]["mean"] == pytest.approx(-row["scores"]["air_time"]["mean"])
    assert row["delta"]["num_seeds"] == 2
    assert set(found["baselines"]) == set(TASKS)


def test_the_wall_ends_the_search_and_not_the_ranking(mtlsearch, space_file, tmp_path):
    """Somebody who wrote `final:` wants to know how good what was found is, however little time it had."""
    out = tmp_path / "out"
    file = space_file(objective="mean", final="{top_k: 1, seeds: 1}", budget="{trials: 500, epochs: 1, wall: 1s}")
    ended = mtlsearch("run", file, "--engine", "local", "--out", out)
    assert ended.code == 0, ended.err
    records = read_records(out / "study.journal")
    assert sum(record.role == "trial" for record in records) < 500
    assert [record.state for record in records if record.role == "final"] == 5 * ["COMPLETE"]
    assert "note: one seed has no spread" in ended.out


def test_an_interrupted_ranking_is_of_the_seeds_so_far_and_goes_on(mtlsearch, space_file, tmp_path, monkeypatch, out):
    """Seed after seed, each final trial scored when it ends: 8 + 6 trials of 2 epochs, and one more epoch."""
    report, taken, cut = Session.report, [], tmp_path / "cut"

    def counted(session: Session, *arguments: Any) -> Any:
        if len(taken) == 2 * (8 + 6) + 1:
            raise KeyboardInterrupt
        taken.append(arguments)
        return report(session, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "report", counted)
        assert mtlsearch("run", space_file(final=FINAL), "--engine", "local", "--out", cut).code == 130
    assert json.loads((cut / "final.json").read_text())["complete"] is False
    ended = mtlsearch("leaderboard", cut)
    assert "note: not all final trials have been scored yet\n" in ended.out
    assert mtlsearch("resume", cut, "--engine", "local").code == 0
    assert (cut / "final.json").read_text() == (out / "final.json").read_text()


# Warm start ------------------------------------------------------------------------------------------------------


@pytest.fixture
def earlier(mtlsearch, space_file, tmp_path) -> Path:
    """The folder of a finished search beside the space files: 4 baselines and 4 trials."""
    folder = tmp_path / "earlier"
    assert mtlsearch("run", space_file(), "--engine", "local", "--out", folder).code == 0
    return folder


def test_a_second_search_starts_from_the_first(mtlsearch, space_file, tmp_path, earlier):
    """A relative path starts at the space file, wherever the command is given."""
    file, out = space_file("second.yaml", search="{warm_start: earlier, seed: 9}"), tmp_path / "out"
    ended = mtlsearch("run", file, "--engine", "local", "--out", out)
    assert ended.code == 0, ended.err
    assert (
        f"warm start: {earlier}: 3 of its best configurations come first, and the sampler knows 4 of its trials\n"
        in ended.out
    )
    old = [record for record in read_records(earlier / "study.journal") if record.role == "trial"]
    best = sorted(old, key=lambda record: -(record.value or 0.0))[:3]
    new = [record for record in read_records(out / "study.journal") if record.role == "trial"]
    assert [record.params for record in new[:3]] == [record.params for record in best]
    assert len(new) == 4
    rows = _rows((out / "leaderboard.csv").read_text())
    assert sorted(int(row["trial"]) for row in rows) == [*range(4), *(record.number for record in new)]
    assert len(list((out / "trials").iterdir())) == 8


def test_other_data_gives_configurations_alone(mtlsearch, space_file, tmp_path, earlier, small_flights):
    other = tmp_path / "other"
    other.mkdir()
    for file in small_flights.glob("*.csv"):
        (other / file.name).write_text(file.read_text().replace("B6", "AA"))
    file = space_file("second.yaml", search="{warm_start: earlier}", data=f"{{source: flights, path: {other}}}")
    ended = mtlsearch("run", file, "--engine", "local", "--out", tmp_path / "out", "--trials", 1)
    assert ended.code == 0, ended.err
    assert "3 of its best configurations come first; its history stays out, since it differs in data\n" in ended.out


def test_a_dry_run_shows_what_comes_first(mtlsearch, space_file, earlier):
    ended = mtlsearch("run", space_file("second.yaml", search="{warm_start: earlier}"), "--dry-run")
    assert f"warm start: {earlier}: 3 of its best configurations come first; the sampler will know" in ended.out
    assert "the first 3 configurations: \n" in ended.out


def test_a_folder_that_is_no_experiment_is_refused_before_anything_is_written(mtlsearch, space_file, tmp_path):
    for dry in ([], ["--dry-run"]):
        file = space_file(search="{warm_start: nowhere}")
        ended = mtlsearch("run", file, "--engine", "local", "--out", tmp_path / "out", *dry)
        assert ended.code == 2
        assert ended.err == (
            f"mtlsearch: {file}:4:10: search.warm_start must be an earlier search's folder: {tmp_path / 'nowhere'} is "
            "no experiment: it is not a folder. Give the folder that `mtlsearch run --out` wrote.\n"
        )
        assert not (tmp_path / "out").exists()


def test_resuming_needs_the_earlier_folder_no_more(mtlsearch, space_file, tmp_path, earlier):
    file, out = space_file("second.yaml", search="{warm_start: earlier}"), tmp_path / "out"
    assert mtlsearch("run", file, "--engine", "local", "--out", out).code == 0
    earlier.rename(tmp_path / "moved")
    before = ExperimentFolder.open(out).journal.read_bytes()
    ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 0, ended.err
    assert ExperimentFolder.open(out).journal.read_bytes() == before

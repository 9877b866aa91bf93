"""The final ranking from the folder of an experiment: who is best, who is tied with it, and whom sharing hurt."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console
from scipy import stats

from mtlsearch.config import Task
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import State, TrialRecord
from mtlsearch.report import FinalRanking, final_notes, final_table, read_final

LATE, DELAY = Task(name="late", kind="binary"), Task(name="delay", kind="regression")
BASELINES = ((0.80, 20.0), (0.84, 25.0), (0.80, 20.0))
GOOD = ((0.88, 18.0), (0.90, 22.0), (0.86, 19.0))
POOR = ((0.76, 18.0), (0.79, 23.0), (0.75, 17.0))
CLOSE = ((0.89, 18.0), (0.88, 22.0), (0.865, 19.0))
AWFUL = ((0.68, 28.0), (0.69, 33.0), (0.65, 29.0))
"""By seed: AUROC of late, RMSE of delay."""

Finals = Callable[..., FinalRanking | None]
Numbers = tuple[tuple[float | None, float | None], ...]


def _scores(late: float | None, delay: float | None) -> dict[str, dict[str, float | None]]:
    return {
        "late": {"auroc": late, "average_precision": 0.5},
        "delay": {"rmse": delay, "mae": 1.0, "r2": None if delay is None else 1 - delay / 100},
    }


@pytest.fixture
def finals(tmp_path: Path) -> Finals:
    """`finals({7: GOOD, 3: POOR})` ranks candidates by their seeds' test scores, beside BASELINES."""

    def rank(
        candidates: Mapping[int, Numbers],
        baselines: Numbers = BASELINES,
        *,
        metric: str = "delta",
        failed: tuple[tuple[int | str, int], ...] = (),
        unscored: int = 0,
    ) -> FinalRanking | None:
        num_seeds = len(baselines)
        plan = {
            "overrides": [],
            "tasks": [task.model_dump() for task in (LATE, DELAY)],
            "objective": metric,
            "final": {"top_k": len(candidates), "seeds": num_seeds},
        }
        folder = ExperimentFolder.create(tmp_path / "out", "", plan, "{}")
        records = [_record(number, "trial", "COMPLETE") for number in candidates]
        wanted: list[tuple[int | str, int, dict[str, dict[str, float | None]]]] = []
        for repeat in range(num_seeds):
            whole = _scores(*baselines[repeat])
            wanted += [(task.name, repeat, {task.name: whole[task.name]}) for task in (LATE, DELAY)]
            wanted += [(number, repeat, _scores(*values[repeat])) for number, values in candidates.items()]
        for number, (who, repeat, scores) in enumerate(wanted, start=100):
            state: State = "FAIL" if (who, repeat) in failed else "COMPLETE"
            task, candidate = (who, None) if isinstance(who, str) else (None, who)
            records.append(_record(number, "final", state, task=task, candidate=candidate, repeat=repeat))
            trial = folder.trial(number)
            trial.path.mkdir()
            if state == "COMPLETE" and number < 100 + len(wanted) - unscored:
                trial.test.write_text(json.dumps(scores))
        return read_final(folder, records)

    return rank


def _record(number: int, role: str, state: State, **changed: object) -> TrialRecord:
    reason = "the loss is nan" if state == "FAIL" else ""
    whole = {"number": number, "role": role, "state": state, "params": {}, "value": 0.1, "reason": reason}
    return TrialRecord(**{**whole, **changed})  # type: ignore[arg-type]


def _gains(numbers: Numbers) -> tuple[list[float], list[float]]:
    """The plain formula, seed by seed: more AUROC is better, less RMSE is."""
    pairs = list(zip(numbers, BASELINES, strict=True))
    return [(our[0] - base[0]) / base[0] for our, base in pairs], [(base[1] - our[1]) / base[1] for our, base in pairs]  # type: ignore[operator]


def test_an_example_worked_out_by_hand(finals: Finals) -> None:
    """Gains of GOOD on late .1, .0714, .075; on delay .1, .12, .05: Δ is .1, .0957, .0625."""
    ranking = finals({3: POOR, 7: GOOD})
    assert ranking is not None
    best, other = ranking.rows
    assert (best.trial, other.trial) == (7, 3)
    assert best.delta is not None
    assert best.delta.mean == pytest.approx((0.1 + 0.0957143 + 0.0625) / 3, abs=1e-6)
    assert best.delta.low == pytest.approx(0.0860714 - 4.302653 * 0.0205256 / 3**0.5, abs=1e-6)
    assert best.scores["late"].mean == pytest.approx(0.88)
    assert best.scores["delay"].mean == pytest.approx(19.6667, abs=1e-4)
    assert (best.p_value, best.tied, best.negative_transfer) == (None, False, ())
    assert other.negative_transfer == ("late",)
    assert ranking.baselines["delay"].mean == pytest.approx(65 / 3)
    assert (ranking.num_seeds, ranking.complete, ranking.notes) == (3, True, ())


def test_it_is_the_plain_formulas_and_scipys_paired_test(finals: Finals) -> None:
    ranking = finals({3: POOR, 7: GOOD})
    assert ranking is not None
    deltas = {}
    for row, numbers in zip(ranking.rows, (GOOD, POOR), strict=True):
        late, delay = _gains(numbers)
        assert row.gain["late"].mean == pytest.approx(fmean(late))
        assert row.gain["delay"].mean == pytest.approx(fmean(delay))
        deltas[row.trial] = [fmean(pair) for pair in zip(late, delay, strict=True)]
        half = stats.t.ppf(0.975, 2) * stats.sem(deltas[row.trial])
        assert row.delta is not None
        assert row.delta.high == pytest.approx(fmean(deltas[row.trial]) + half)
    assert ranking.rows[1].p_value == pytest.approx(stats.ttest_rel(deltas[3], deltas[7]).pvalue)


def test_several_candidates_are_tested_with_holms_correction(finals: Finals) -> None:
    ranking = finals({1: AWFUL, 2: CLOSE, 5: GOOD})
    assert ranking is not None
    assert [row.trial for row in ranking.rows] == [5, 2, 1]
    deltas = [[fmean(pair) for pair in zip(*_gains(each), strict=True)] for each in (AWFUL, CLOSE, GOOD)]
    awful, close = (float(stats.ttest_rel(each, deltas[2]).pvalue) for each in deltas[:2])
    assert awful < close
    corrected = {row.trial: row.p_value for row in ranking.rows}
    assert corrected[1] == pytest.approx(2 * awful)
    assert corrected[2] == pytest.approx(max(2 * awful, close))
    assert [row.tied for row in ranking.rows] == [False, True, False]


def test_a_candidate_that_is_the_best_one_again_is_tied(finals: Finals) -> None:
    """Two trials of one configuration train to the last bit alike on the same seed."""
    ranking = finals({4: GOOD, 9: GOOD})
    assert ranking is not None
    assert [(row.trial, row.p_value, row.tied) for row in ranking.rows] == [(4, None, False), (9, 1.0, True)]


def test_another_objective_ranks_by_its_own_score_and_has_delta_beside_it(finals: Finals) -> None:
    """Less RMSE is better: POOR is the best here."""
    ranking = finals({7: GOOD, 3: POOR}, metric="delay/rmse")
    assert ranking is not None
    assert [row.trial for row in ranking.rows] == [3, 7]
    assert ranking.rows[0].objective is not None
    assert ranking.rows[0].objective.mean == pytest.approx(-58 / 3)
    assert ranking.rows[1].p_value == pytest.approx(stats.ttest_rel([18, 22, 19], [18, 23, 17]).pvalue)
    assert all(row.delta is not None for row in ranking.rows)


def test_the_tables_objective_is_called_so_where_its_sign_is_not_the_metrics(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR}, metric="delay/rmse")
    assert ranking is not None
    lines = _shown(ranking, 120)
    heads = " ".join(lines)
    assert "objective" in heads
    assert heads.count("rmse") == 1, "the task's own column, in its own unit"
    assert lines[-3].split()[:2] == ["3", "-19.33"]


def test_scores_that_are_damaged_and_a_plan_without_a_final_ranking(finals: Finals, tmp_path: Path) -> None:
    finals({7: GOOD})
    folder = ExperimentFolder(tmp_path / "out")
    records = [_record(7, "trial", "COMPLETE"), _record(102, "final", "COMPLETE", candidate=7, repeat=0)]
    folder.trial(102).test.write_text("{}")
    with pytest.raises(ConfigError, match=r"00102/test\.json: the file must be the trial's test scores, of all its"):
        read_final(folder, records)
    plan = folder.read_plan()
    del plan["final"]
    folder.plan.write_text(json.dumps(plan))
    assert read_final(folder, records) is None


def test_the_mean_objective_is_of_the_metrics_that_test_defines(finals: Finals) -> None:
    undefined = tuple((None, delay) for _, delay in GOOD)
    ranking = finals({7: undefined}, tuple((None, delay) for _, delay in BASELINES), metric="mean")
    assert ranking is not None
    assert ranking.rows[0].objective is not None
    assert ranking.rows[0].objective.mean == pytest.approx(fmean(1 - delay / 100 for _, delay in GOOD))


def test_one_seed_has_no_interval_and_no_test_and_says_so(finals: Finals) -> None:
    ranking = finals({7: GOOD[:1], 3: POOR[:1]}, BASELINES[:1])
    assert ranking is not None
    best, other = ranking.rows
    assert best.delta is not None
    assert (best.delta.low, best.delta.high, best.delta.num_seeds) == (None, None, 1)
    assert (other.p_value, other.tied, other.negative_transfer) == (None, False, ())
    assert ranking.notes == (
        "one seed has no spread: there are no intervals and no tests; `final.seeds` should be 5 or more",
    )


def test_a_failed_final_trial_is_left_out_of_its_seed_and_named(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR}, failed=((3, 1), ("late", 2)))
    assert ranking is not None
    best, other = ranking.rows
    assert best.delta is not None
    assert best.delta.num_seeds == 2  # without the baseline of the third seed there is no Δ of that seed
    assert (best.scores["late"].num_seeds, best.gain["delay"].num_seeds) == (3, 3)
    assert other.delta is not None
    assert (other.delta.num_seeds, other.p_value) == (1, None)
    assert ranking.complete
    assert [note.split(" failed")[0] for note in ranking.notes] == [
        "trial 107 (trial 3 again, seed 2)",
        "trial 108 (baseline late, seed 3)",
    ]


def test_a_candidate_whose_trials_all_failed_has_no_row(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR}, failed=((3, 0), (3, 1), (3, 2)))
    assert ranking is not None
    assert [row.trial for row in ranking.rows] == [7]
    assert len(ranking.notes) == 3


def test_a_metric_that_test_leaves_undefined_is_left_out_and_named(finals: Finals) -> None:
    undefined = tuple((None, delay) for _, delay in GOOD)
    ranking = finals({7: undefined}, tuple((None, delay) for _, delay in BASELINES))
    assert ranking is not None
    assert set(ranking.rows[0].scores) == {"delay"}
    assert ranking.rows[0].delta is not None
    assert ranking.rows[0].delta.mean == pytest.approx(fmean(_gains(GOOD)[1]))
    assert ranking.notes == ("left out, since test leaves the main metric undefined: late",)


def test_a_task_whose_baseline_failed_on_every_seed_is_not_in_delta(finals: Finals) -> None:
    ranking = finals({7: GOOD}, failed=(("late", 0), ("late", 1), ("late", 2)))
    assert ranking is not None
    assert set(ranking.rows[0].scores) == {"late", "delay"}
    assert set(ranking.rows[0].gain) == {"delay"}
    assert ranking.notes[0] == "not in Δ, since the single-task baseline is missing or its metric is 0: late"


def test_what_has_not_been_scored_yet_makes_it_incomplete(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR}, unscored=4)
    assert ranking is not None
    assert not ranking.complete
    assert ranking.rows[0].scores["late"].num_seeds == 2
    assert "not all final trials have been scored yet" in final_notes(ranking)


def test_none_where_nothing_was_scored(finals: Finals) -> None:
    assert finals({7: GOOD, 3: POOR}, unscored=12) is None


def test_a_damaged_test_file_is_named(finals: Finals, tmp_path: Path) -> None:
    finals({7: GOOD})
    (tmp_path / "out" / "trials" / "00102" / "test.json").write_text("{")
    with pytest.raises(ConfigError, match=r"00102/test\.json: the file must be the trial's test scores"):
        read_final(ExperimentFolder.open(tmp_path / "out"), [_record(102, "final", "COMPLETE", candidate=7, repeat=0)])


def test_the_json_has_everything(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR})
    assert ranking is not None
    found = json.loads(ranking.json())
    assert [row["trial"] for row in found["rows"]] == [7, 3]
    assert ranking.rows[0].delta is not None
    assert found["rows"][0]["delta"]["high"] == ranking.rows[0].delta.high
    assert found["rows"][1]["negative_transfer"] == ["late"]
    assert (found["num_seeds"], found["complete"], found["metrics"]) == (3, True, {"late": "auroc", "delay": "rmse"})


def _shown(ranking: FinalRanking, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(final_table(ranking, width))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_on_a_terminal(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR})
    assert ranking is not None
    lines = _shown(ranking, 80)
    assert [line.split()[0] for line in lines[-3:]] == ["7", "3", "baselines"]
    assert lines[-3].split()[1:4] == ["0.08607", "±", "0.051"]
    assert "best" in lines[-3]
    assert ("tied" in lines[-2]) == ranking.rows[1].tied
    assert lines[-1].split()[1:] == ["0.8133", "±", "0.057", "21.67", "±", "7.2"]
    assert list(final_notes(ranking)) == ["trial 3 is worse than the single-task baselines on late"]


def test_a_narrow_terminal_shows_fewer_tasks_and_cuts_no_number(finals: Finals) -> None:
    ranking = finals({7: GOOD, 3: POOR})
    assert ranking is not None
    lines = _shown(ranking, 45)
    assert lines[-1] == "2 more tasks are in final.json"
    assert max(map(len, lines)) <= 45
    assert "…" not in "".join(lines)

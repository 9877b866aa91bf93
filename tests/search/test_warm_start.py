"""A search that starts from an earlier one: what it tries first, and what its sampler knows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest_search import SERVED, SPACE, Read, run
from optuna.trial import TrialState

from mtlsearch.config import Served, Task
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.search import Earlier, Search, read_earlier, read_records
from mtlsearch.space import Experiment

WarmStart = Callable[..., tuple[Experiment, Earlier]]


@pytest.fixture
def before(read: Read, tmp_path: Path) -> ExperimentFolder:
    """An earlier search of 20 trials, a few of them pruned, on data `d1`."""
    plan = {"overrides": [], "data_digest": "d1", "tasks": [task.model_dump() for task in SERVED.tasks]}
    folder = ExperimentFolder.create(tmp_path / "before", SPACE, plan, "{}")
    run(Search(read("search.pruner=median"), SERVED, folder.journal, past=lambda number: []))
    return folder


@pytest.fixture
def warm_start(before: ExperimentFolder, read: Read) -> WarmStart:
    """`warm_start("budget.epochs=9")`: the new experiment, with changes, and what it takes over."""

    def start(
        *changes: str, digest: str = "d1", served: Served = SERVED, text: str = SPACE
    ) -> tuple[Experiment, Earlier]:
        experiment = read(f"search.warm_start={before.path}", *changes, text=text)
        return experiment, read_earlier(experiment, served, digest)

    return start


def _new(experiment: Experiment, earlier: Earlier, tmp_path: Path) -> Search:
    return Search(experiment, SERVED, tmp_path / "study.journal", past=lambda number: [], earlier=lambda: earlier)


def _stored(path: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.load_study(study_name="fake", storage=storage).get_trials()


def test_the_best_come_first_and_the_sampler_knows_the_history(
    warm_start: WarmStart, before: ExperimentFolder, tmp_path: Path
) -> None:
    experiment, earlier = warm_start("budget.trials=5", "search.seed=6")
    old = read_records(before.journal)
    best = sorted((r for r in old if r.state == "COMPLETE"), key=lambda r: -(r.value or 0.0))[:3]
    search = _new(experiment, earlier, tmp_path)
    run(search)
    records = search.records()
    assert [record.params for record in records[:3]] == [record.params for record in best]
    imported = [trial for trial in search._study.get_trials() if "imported" in trial.user_attrs]
    assert [(t.state.name, t.value, t.params, t.intermediate_values) for t in imported] == [
        (r.state, r.value, r.params, r.intermediate) for r in old
    ]
    assert {trial.state for trial in imported} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert imported[3].user_attrs["imported"] == {"folder": str(before.path), "trial": 3}


def test_what_was_taken_over_is_no_trial_of_this_experiment(warm_start: WarmStart, tmp_path: Path) -> None:
    experiment, earlier = warm_start("budget.trials=5")
    search = _new(experiment, earlier, tmp_path)
    run(search)
    assert len(search.records()) == 5  # the budget is of its own trials
    assert search.finished
    assert read_records(tmp_path / "study.journal") == search.records()
    assert search.best() in search.records()
    assert len(_stored(tmp_path / "study.journal")) == 25  # whoever opens the study sees all


def test_the_sampler_proposes_what_it_would_with_those_trials_in_its_own_study(
    warm_start: WarmStart, tmp_path: Path
) -> None:
    """TPE would draw its first ten trials at random; it knows enough from the start."""
    cold, warm = tmp_path / "cold", tmp_path / "warm"
    cold.mkdir()
    warm.mkdir()
    experiment, earlier = warm_start("budget.trials=8")
    searches = [_new(experiment, earlier, warm), Search(experiment, SERVED, cold / "study.journal", past=lambda n: [])]
    for search in searches:
        run(search)
    rates = [[abs(math.log10(record.params["optimizer.lr"]) + 3) for record in s.records()[3:]] for s in searches]  # type: ignore[arg-type]
    assert sum(rates[0]) < sum(rates[1])  # the optimum is near 1e-3


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes", "gp"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "wilcoxon"])
def test_every_sampler_and_pruner_takes_a_history(
    warm_start: WarmStart, tmp_path: Path, sampler: str, pruner: str
) -> None:
    experiment, earlier = warm_start("budget.trials=6", f"search.sampler={sampler}", f"search.pruner={pruner}")
    search = _new(experiment, earlier, tmp_path)
    run(search)
    assert len(search.records()) == 6
    assert search.finished


def test_a_driver_that_died_does_not_need_the_folder_again(warm_start: WarmStart, tmp_path: Path) -> None:
    experiment, earlier = warm_start("budget.trials=6")
    run(_new(experiment, earlier, tmp_path), most_reports=4)

    def gone() -> Earlier:
        raise AssertionError("it is in the study")

    search = Search(experiment, SERVED, tmp_path / "study.journal", past=lambda number: [], earlier=gone)
    run(search)
    assert len(search.records()) == 6
    assert len(_stored(tmp_path / "study.journal")) == 26


OTHER_TASKS = Served((SERVED.tasks[0], Task(name="delay", kind="regression", metric="mae")), has_steps=False)


@pytest.mark.parametrize(
    ("changes", "options", "difference"),
    [
        ((), {"digest": "d2"}, "data"),
        ((), {"served": OTHER_TASKS}, "tasks"),
        (("objective.metric=late/auroc",), {}, "objective"),
        (("budget.epochs=9",), {}, "budget.epochs"),
        (("budget.epochs=9",), {"digest": "d2"}, "data, budget.epochs"),
    ],
)
def test_where_values_would_mean_another_thing_configurations_alone_are_taken_over(
    warm_start: WarmStart, changes: tuple[str, ...], options: dict[str, object], difference: str
) -> None:
    _, earlier = warm_start(*changes, **options)
    assert (len(earlier.best), earlier.history) == (3, ())
    assert earlier.sentence.endswith(
        f"3 of its best configurations come first; its history stays out, since it differs in {difference}"
    )


def test_other_baselines_are_another_objective_for_delta(before: ExperimentFolder, read: Read) -> None:
    plan = json.loads(before.plan.read_text()) | {"overrides": ["objective.metric=delta"]}
    before.plan.write_text(json.dumps(plan))
    start = f"search.warm_start={before.path}"
    same = read_earlier(read(start, "objective.metric=delta"), SERVED, "d1")
    assert same.differences == ()
    batches = read_earlier(read(start, "objective.metric=delta", "space.batch_size=32"), SERVED, "d1")
    assert batches.differences == ("objective.baseline",)  # baselines train with the space's batches


def test_data_that_was_not_read_yet(before: ExperimentFolder, read: Read) -> None:
    """A dry run does not convert the data."""
    earlier = read_earlier(read(f"search.warm_start={before.path}"), SERVED, None)
    assert earlier.history == ()
    assert earlier.sentence.endswith("the sampler will know its trials if the data is the same")


def test_only_what_the_new_space_has_is_taken_over_in_its_names(
    warm_start: WarmStart, before: ExperimentFolder
) -> None:
    """One branch is left, so its parameters lose the branch's place; a narrower range leaves some trials out."""
    text = SPACE.replace("      - kind: shared_bottom\n        hidden: {choice: [32, 64, 128]}\n", "").replace(
        "lr: {float: [1.0e-4, 1.0e-2]", "lr: {float: [5.0e-4, 1.0e-2]"
    )
    experiment, earlier = warm_start(text=text)
    old = [
        record
        for record in read_records(before.journal)
        if record.params["model"] == "mmoeex" and float(record.params["optimizer.lr"] or 0) >= 5e-4
    ]
    assert 0 < len(old) < 20
    assert [record.number for record in earlier.history] == [record.number for record in old]
    for new, record in zip(earlier.history, old, strict=True):
        assert set(new.params) == set(experiment.space.dimensions)
        assert new.params["optimizer.lr"] == record.params["optimizer.lr"]


def test_a_space_that_has_none_of_it_takes_nothing_over(warm_start: WarmStart) -> None:
    _, earlier = warm_start("space.model={kind: mmoe, hidden: 7}")
    assert (earlier.best, earlier.history) == ((), ())


def test_constraints_hold_for_what_is_taken_over(warm_start: WarmStart) -> None:
    _, earlier = warm_start("constraints=['lr < 0.001']")
    assert earlier.history
    assert all(float(record.params["optimizer.lr"] or 1) < 1e-3 for record in earlier.history)


@pytest.mark.parametrize("broken", ["missing", "empty", "plan", "journal"])
def test_a_folder_that_is_no_experiment_is_named_with_the_line(
    before: ExperimentFolder, read: Read, tmp_path: Path, broken: str
) -> None:
    (tmp_path / "empty").mkdir()
    path = {"missing": tmp_path / "nowhere", "empty": tmp_path / "empty"}.get(broken, before.path)
    if broken == "plan":
        before.plan.write_text("{")
    if broken == "journal":
        before.journal.write_text("nonsense\n")
    text = SPACE.replace("search: {seed: 5}", f"search: {{seed: 5, warm_start: {path}}}")
    with pytest.raises(ConfigError, match=r"search\.warm_start must be an earlier search's folder: ") as caught:
        read_earlier(read(text=text), SERVED, "d1")
    assert caught.value.where is not None
    assert caught.value.where.line == text[: text.index("search:")].count("\n") + 1

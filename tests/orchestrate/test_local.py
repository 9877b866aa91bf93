"""The local engine: real training, and what Optuna's own loop over the same trainer gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest_orchestrate import PRUNERS, facts, search, study

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.orchestrate.rank import Rank
from mtlsearch.records import TrialOrder, TrialStart, derive_seed
from mtlsearch.search.pruners import build_pruner
from mtlsearch.search.samplers import Asked, build_sampler
from mtlsearch.space import Experiment, read_experiment

WriteSpace = Callable[..., Path]


def plain_optuna(experiment: Experiment, folder: Path) -> list[optuna.trial.FrozenTrial]:
    """The oracle: `study.optimize` over the trainer, trial by trial."""
    plan = make_plan(experiment)
    data: DataConfig = plan.experiment.data
    rank = Rank(data, ResourcesConfig(), lambda number: ExperimentFolder(folder).trial(number).checkpoints)

    def objective(trial: optuna.Trial) -> float:
        order = TrialOrder(
            number=trial.number,
            role="trial",
            config=experiment.space.suggest(Asked(trial)),
            seed=derive_seed(experiment.search.seed, trial.number),
            epochs=experiment.budget.epochs,
            tasks=tuple(task.name for task in plan.tasks),
            metric="mean",
        )
        rank.begin(order, TrialStart(generation=1))
        values = []
        for epoch in range(1, order.epochs + 1):
            report = rank.step()
            assert report is not None
            values.append(report.metrics.objective)
            trial.report(report.metrics.objective, epoch)
            if epoch < order.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return max(values)

    sampler = build_sampler(experiment.search.sampler, experiment.space, experiment.search.seed, lambda config: True)
    pruner = build_pruner(experiment.search.pruner, experiment.budget.epochs)
    mirror = optuna.create_study(study_name=experiment.name, direction="maximize", sampler=sampler, pruner=pruner)
    mirror.optimize(objective, n_trials=experiment.budget.trials)
    return mirror.get_trials()


@pytest.mark.slow
@pytest.mark.parametrize("pruner", PRUNERS)
def test_the_local_engine_is_study_optimize(space_file: WriteSpace, tmp_path: Path, pruner: str) -> None:
    changes = [f"search.pruner={pruner}", "objective.metric=mean", "budget={trials: 9, epochs: 4}"]
    ours = study(search(space_file(), tmp_path / "ours", *changes))
    theirs = plain_optuna(read_experiment(space_file(), changes), tmp_path / "theirs")
    assert [fact[:5] for fact in facts(ours)] == [fact[:5] for fact in facts(theirs)]


def test_the_folder_agrees_with_the_study(space_file: WriteSpace, tmp_path: Path) -> None:
    """Every intermediate value is a line of metrics.jsonl; a value is the best or, when pruned, the last of them."""
    folder = search(space_file(), tmp_path / "out", "search.pruner=median", "budget={trials: 9, epochs: 4}")
    for trial in study(folder):
        epochs = folder.trial(trial.number).epochs()
        assert [each.epoch for each in epochs] == list(range(1, len(epochs) + 1))
        if "baseline" in trial.user_attrs:
            assert trial.value == 0
            best = max(each.objective for each in epochs)
            assert abs(best) == trial.user_attrs["score"]
        else:
            assert {each.epoch: each.objective for each in epochs} == trial.intermediate_values
            values = list(trial.intermediate_values.values())
            assert trial.value == (max(values) if trial.state.name == "COMPLETE" else values[-1])


def test_test_is_scored_for_the_top_and_the_baselines_only(space_file: WriteSpace, tmp_path: Path) -> None:
    folder = search(space_file(), tmp_path / "out", "budget={trials: 6, epochs: 2}")
    scored = {int(path.parent.name) for path in folder.path.glob("trials/*/test.json")}
    trials = [trial for trial in study(folder) if "baseline" not in trial.user_attrs]
    top = sorted(trials, key=lambda trial: -trial.value)[:3]
    assert scored == {0, 1, 2, 3} | {trial.number for trial in top}
    one = json.loads((folder.trial(top[0].number).test).read_text())
    assert set(one) == {"cancelled", "dep_late15", "arr_delay", "air_time"}


def test_a_trial_that_diverges_fails_with_its_reason_and_the_search_goes_on(
    space_file: WriteSpace, tmp_path: Path
) -> None:
    space = "{model: mmoe, optimizer: {kind: sgd, lr: {choice: [0.001, 10.0]}}, batch_size: 64}"
    path = space_file(space=space, search="{sampler: grid, pruner: none}", objective="mean")
    trials = study(search(path, tmp_path / "out", "budget={trials: 6, epochs: 2}", "space.model={kind: mmoe}"))
    assert sorted(trial.state.name for trial in trials) == ["COMPLETE", "FAIL"]
    (failed,) = [trial for trial in trials if trial.state.name == "FAIL"]
    assert failed.params == {"optimizer.lr": 10.0}
    assert failed.user_attrs["outcome"].startswith("the training loss of ")

"""How much each sampled parameter mattered to reaching the best trials: conditional PED-ANOVA.

Watanabe et al., arXiv 2304.10255, and its form for conditional parameters, arXiv 2601.20800, as Optuna has them. It
asks how differently a parameter is spread among the best trials and among all, so it needs no model of the
objective, and a parameter that only some branches have counts by the trials that have it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from mtlsearch.search.attributes import is_apart
from mtlsearch.search.place import StudyPlace
from mtlsearch.search.reading import read_trials

FEWEST = 8
"""Complete trials below which nothing is said."""

_TOP = 5
"""Of the best trials there must be so many; with 50 trials or more they are the best tenth."""

Shares = Mapping[str, float]
"""Parameter → its share, largest first, all adding up to 1. Empty where too few trials are complete, or no parameter
made a difference."""


@dataclass(frozen=True)
class Importance:
    """Of one experiment's parameters."""

    num_trials: int
    """Complete ones, from which it is taken."""
    objective: Shares
    tasks: Mapping[str, Shares]


def read_importance(place: StudyPlace, scores: Mapping[str, Mapping[int, float]]) -> Importance:
    """Of a study's complete trials.

    Args:
        scores: task → trial → its main metric, turned so that higher is better.
    """
    complete = [trial for trial in read_trials(place) if trial.state == TrialState.COMPLETE and not is_apart(trial)]
    if not complete:
        return Importance(num_trials=0, objective={}, tasks={task: {} for task in scores})
    study = _study(complete)
    objective = {trial.number: trial.value for trial in complete if trial.value is not None}
    return Importance(
        num_trials=len(complete),
        objective=_shares(study, [objective.get(trial.number) for trial in complete]),
        tasks={
            task: _shares(study, [values.get(trial.number) for trial in complete]) for task, values in scores.items()
        },
    )


def _shares(study: optuna.Study, values: Sequence[float | None]) -> Shares:
    """Of the study's trials, each with its value; one without a value takes no part."""
    scored = [value for value in values if value is not None and math.isfinite(value)]
    if len(scored) < FEWEST or len(set(scored)) < 2:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, _TOP / len(scored))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lower targets are better, and of a branch with one trial, which counts 0
        shares = evaluator.evaluate(study, target=lambda trial: _lower_is_better(values[trial.number]))
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if total > 0 else {}


def _lower_is_better(value: float | None) -> float:
    return math.nan if value is None else -value


def _study(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """The same trials, counted from 0."""
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction="maximize")
    study.add_trials(trials)
    return study

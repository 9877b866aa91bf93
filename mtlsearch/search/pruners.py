"""One table: pruner config → Optuna pruner. A step is an epoch of the trial, counted from 1.

The ones that compare a trial with all others are Optuna's own over an index of the study (`history.py`): the same
answers, in a time that does not grow with the study. Over a study without a history they are Optuna's, unchanged.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import assert_never

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, PercentilePruner, SuccessiveHalvingPruner, WilcoxonPruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mtlsearch.config.search import (
    HyperbandConfig,
    MedianConfig,
    NonePrunerConfig,
    PatientConfig,
    PercentileConfig,
    PrunerConfig,
    SuccessiveHalvingConfig,
    ThresholdConfig,
    WilcoxonConfig,
)
from mtlsearch.search.experimental import used_on_purpose
from mtlsearch.search.history import Kept, history_of

_RUNG = "completed_rung_"
"""Successive halving notes a trial's value at a rung as a system attribute of this name and the rung."""


def build_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """The Optuna pruner for trials of at most `epochs` epochs."""
    match config:
        case NonePrunerConfig():
            return optuna.pruners.NopPruner()
        case MedianConfig():
            return Percentile(50.0, config.n_startup_trials, config.n_warmup_epochs)
        case PercentileConfig():
            return Percentile(config.percentile, config.n_startup_trials, config.n_warmup_epochs)
        case HyperbandConfig():
            # max_resource is fixed: "auto" would read it off the first trial that completes, whichever that is.
            return Hyperband(config.min_epochs, epochs, config.reduction_factor)
        case SuccessiveHalvingConfig():
            return SuccessiveHalving(config.min_epochs, config.reduction_factor, config.min_early_stopping_rate)
        case WilcoxonConfig():
            with used_on_purpose():
                return WilcoxonPruner(p_threshold=config.p_threshold, n_startup_steps=config.n_startup_epochs)
        case ThresholdConfig():
            return optuna.pruners.ThresholdPruner(config.lower, config.upper, config.n_warmup_epochs)
        case PatientConfig():
            wrapped = build_pruner(config.wrapped, epochs) if config.wrapped else None
            with used_on_purpose():
                return optuna.pruners.PatientPruner(wrapped, config.patience, config.min_delta)
        case _:
            assert_never(config)


class _Curves:
    """Of complete trials: how many there are, and the values at each step, ascending. NaN is no value."""

    def __init__(self) -> None:
        self.num_complete = 0
        self.values: dict[int, list[float]] = defaultdict(list)

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """Takes a trial's values when it is complete; they no longer change then."""
        if after.state != TrialState.COMPLETE or (before is not None and before.state == TrialState.COMPLETE):
            return
        self.num_complete += 1
        for step, value in after.intermediate_values.items():
            if not math.isnan(value):
                insort(self.values[step], value)


class Percentile(PercentilePruner):
    """Optuna's percentile pruner (median: 50), asked at every step from the warm-up on."""

    def __init__(self, percentile: float, n_startup_trials: int, n_warmup_steps: int) -> None:
        super().__init__(percentile, n_startup_trials, n_warmup_steps)
        self._curves = Kept[_Curves]()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial's best value is below the percentile of the complete trials' at its last step."""
        history = history_of(study)
        if history is None:
            return super().prune(study, trial)
        curves, step = self._curves.over(history, _Curves), trial.last_step
        if curves.num_complete == 0 or curves.num_complete < self._n_startup_trials:
            return False
        if step is None or step < self._n_warmup_steps:
            return False
        own = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
        if not own:
            return True
        others = curves.values.get(step)
        return bool(others) and max(own) < _percentile(others or (), 100 - self._percentile)


def _percentile(ascending: Sequence[float], percent: float) -> float:
    """To the last bit what `numpy.percentile` gives (its `linear` method)."""
    position = (len(ascending) - 1) * (percent / 100)
    below = math.floor(position)
    if below >= len(ascending) - 1:
        return ascending[-1]
    low, high, share = ascending[below], ascending[below + 1], position - below
    difference = high - low
    return high - difference * (1 - share) if share >= 0.5 else low + difference * share


class _Rungs:
    """(bracket, rung) → the values that trials had there, ascending."""

    def __init__(self, bracket_of: Callable[[FrozenTrial], int]) -> None:
        self._bracket_of = bracket_of
        self.values: dict[tuple[int, str], list[float]] = defaultdict(list)

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """Takes what a trial has noted since `before`."""
        noted, known = after.system_attrs, before.system_attrs if before is not None else {}
        if noted is known or len(noted) == len(known):
            return
        for name, value in noted.items():
            if name.startswith(_RUNG) and name not in known:
                insort(self.values[self._bracket_of(after), name], value)


def _halve(pruner: SuccessiveHalvingPruner, rungs: _Rungs, bracket: int, study: Study, trial: FrozenTrial) -> bool:
    """Successive halving's answer: at each rung that the trial has come to, whether it is in the best share there."""
    step, rung = trial.last_step, 0
    if step is None:
        return False
    while f"{_RUNG}{rung}" in trial.system_attrs:
        rung += 1
    value, factor = trial.intermediate_values[step], pruner._reduction_factor
    assert pruner._min_resource is not None
    while step >= pruner._min_resource * factor ** (pruner._min_early_stopping_rate + rung):
        if math.isnan(value):
            return True
        name = f"{_RUNG}{rung}"
        study._storage.set_trial_system_attr(trial._trial_id, name, value)  # and so it is among the rung's values
        there = rungs.values[bracket, name]
        if value < there[-max(1, len(there) // factor)]:
            return True
        rung += 1
    return False


class SuccessiveHalving(SuccessiveHalvingPruner):
    """Optuna's asynchronous successive halving."""

    def __init__(self, min_resource: int, reduction_factor: int, min_early_stopping_rate: int) -> None:
        super().__init__(min_resource, reduction_factor, min_early_stopping_rate)
        self._rungs = Kept[_Rungs]()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial stops at a rung."""
        history = history_of(study)
        if history is None:
            return super().prune(study, trial)
        rungs = self._rungs.over(history, lambda: _Rungs(lambda trial: 0))
        return _halve(self, rungs, 0, study, trial)


class Hyperband(HyperbandPruner):
    """Optuna's hyperband: successive halving in brackets, which trials have by their number."""

    def __init__(self, min_resource: int, max_resource: int, reduction_factor: int) -> None:
        super().__init__(min_resource, max_resource, reduction_factor)
        self._rungs = Kept[_Rungs]()

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial stops at a rung of its bracket."""
        history = history_of(study)
        if history is None:
            return super().prune(study, trial)
        if not self._pruners:
            self._try_initialization(study)
        rungs = self._rungs.over(history, lambda: _Rungs(lambda other: self._get_bracket_id(study, other)))
        bracket = self._get_bracket_id(study, trial)
        return _halve(self._pruners[bracket], rungs, bracket, study, trial)

    def _create_bracket_study(self, study: Study, bracket_id: int) -> Study:
        """Optuna shows it to samplers, which ask it for all trials of all brackets, and makes a class each time."""
        return super()._create_bracket_study(study, bracket_id) if history_of(study) is None else study

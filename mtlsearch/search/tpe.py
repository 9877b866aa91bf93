"""Optuna's tree-structured Parzen estimator, over an index of the study, and with a bound on what it looks at.

Optuna's sorts all trials, and reads each one's parameters, for each branch of the space, with every proposal; one of
them takes 20 ms after 1,000 trials and a second after 10,000. Up to `MOST_FINISHED` finished trials the index gives
the same proposals sooner. After that the best trials still come from all of the history, as in Optuna's (at most 25
are called good), but only the latest ones of the rest stand beside them (Optuna's own weights favour these already),
and only the branches that a proposal takes are sampled. So a proposal costs the same however long the search has run.
`benchmarks/scale.py` measures that, and that searches become as good.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.search_space.group_decomposed import _SearchSpaceGroup
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

MOST_FINISHED = 500
"""Finished trials that proposals are compared with, beside the best."""

MOST_RUNNING = 100
"""Trials under way that they are, when there are more finished ones; each counts as a poor one until it has ended."""

_RELATIVE = "tpe:relative_params:"
"""Optuna's sampler notes what it proposed as system attributes of this name and a number, in pieces."""

Observation = dict[str, float]
"""A trial's parameters as Optuna's estimators count them: a choice is its index."""


class Known:
    """Of finished and running trials: their parameters, and the order in which they are good."""

    def __init__(self) -> None:
        self.running: dict[int, FrozenTrial] = {}
        self._finished: list[int] = []  # numbers, ascending
        self._observations: dict[int, Observation] = {}
        self._running_observations: dict[int, tuple[dict[str, Any], Observation]] = {}
        self._complete: list[tuple[float, int]] = []  # best first, as are the pruned ones
        self._pruned: list[tuple[float, float, int]] = []
        self._shapes: dict[frozenset[str], tuple[int, dict[str, BaseDistribution]]] = {}
        self._ranges: dict[str, BaseDistribution] = {}
        self._groups: list[dict[str, BaseDistribution]] | None = None

    @property
    def num_finished(self) -> int:
        """Complete and pruned trials."""
        return len(self._finished)

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """Takes a trial that runs as it is, and one that is finished once."""
        if after.state == TrialState.RUNNING:
            self.running[after.number] = after
            return
        self.running.pop(after.number, None)
        self._running_observations.pop(after.number, None)
        if before is not None and before.state == after.state:
            return
        if after.state == TrialState.COMPLETE:
            assert after.value is not None
            insort(self._complete, (-after.value, after.number))
        elif after.state == TrialState.PRUNED:
            insort(self._pruned, (*_pruned_score(after), after.number))
        else:
            return
        insort(self._finished, after.number)
        self._observations[after.number] = _observed(after.params, after.distributions)
        names = frozenset(after.params)
        if names not in self._shapes or after.number < self._shapes[names][0]:
            self._shapes[names] = (after.number, after.distributions)
            self._ranges |= after.distributions
            self._groups = None

    def groups(self) -> list[dict[str, BaseDistribution]]:
        """Parameters that always come together, with their ranges; those with one value left out.

        The order is Optuna's, and decides which random numbers each of them gets.
        """
        if self._groups is None:
            group = _SearchSpaceGroup()
            for _, distributions in sorted(self._shapes.values(), key=lambda shape: shape[0]):
                group.add_distributions(distributions)
            searched = [
                {name: space[name] for name in sorted(space) if not space[name].single()}
                for space in group.search_spaces
            ]
            self._groups = [space for space in searched if space]
        return self._groups

    def split(self, asking: int) -> tuple[list[Observation], list[Observation]]:
        """The good trials and the others, each by number, as Optuna splits them.

        Args:
            asking: the trial that is to get a proposal, which runs already.
        """
        good = self._good()
        others = [number for number in self._finished if number not in good]
        running = [number for number in self.running if number != asking]
        by_number = {number: self._observations[number] for number in others}
        by_number |= {number: self._proposed(self.running[number]) for number in running}
        return self._of(good), [by_number[number] for number in sorted(by_number)]

    def split_lately(self, asking: int) -> tuple[list[Observation], list[Observation]]:
        """The same with the latest of the others only."""
        good = self._good()
        latest = self._finished[-(MOST_FINISHED + len(good)) :]
        others = [number for number in latest if number not in good][-MOST_FINISHED:]
        before = sorted(self.running)
        running = before[: bisect_left(before, asking)][-MOST_RUNNING:]
        by_number = {number: self._observations[number] for number in others}
        by_number |= {number: self._under_way(self.running[number]) for number in running}
        return self._of(good), [by_number[number] for number in sorted(by_number)]

    def _under_way(self, trial: FrozenTrial) -> Observation:
        """A running trial's parameters; they stay the same object from one report to the next."""
        params, observation = self._running_observations.get(trial.number, (None, {}))
        if params is not trial.params:
            observation = _observed(trial.params, trial.distributions)
            self._running_observations[trial.number] = (trial.params, observation)
        return observation

    def _proposed(self, trial: FrozenTrial) -> Observation:
        """A running trial's parameters, with those that were proposed for branches that it did not take."""
        pieces: list[str] = []
        while piece := trial.system_attrs.get(f"{_RELATIVE}{len(pieces)}"):
            pieces.append(piece)
        proposed = json.loads("".join(pieces)) if pieces else {}
        return _observed(proposed, self._ranges) | _observed(trial.params, trial.distributions)

    def _good(self) -> set[int]:
        count = default_gamma(self.num_finished)
        complete = [number for _, number in self._complete[:count]]
        pruned = [number for *_, number in self._pruned[: count - len(complete)]]
        return {*complete, *pruned}

    def _of(self, numbers: set[int]) -> list[Observation]:
        return [self._observations[number] for number in sorted(numbers)]


def _pruned_score(trial: FrozenTrial) -> tuple[float, float]:
    """Lower is better: who came farther, then who was better there."""
    if not trial.intermediate_values:
        return 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return -step, math.inf if math.isnan(value) else -value


def _observed(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> Observation:
    return {name: distributions[name].to_internal_repr(value) for name, value in params.items()}


class IndexedTpe(TPESampler):
    """A proposal for one trial.

    Args:
        known: the index of the study's history; without one, the sampler is Optuna's, unchanged.
    """

    def __init__(self, known: Known | None, n_startup_trials: int, seed: int) -> None:
        super().__init__(
            n_startup_trials=n_startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
        )
        self._known = known
        self._split: tuple[list[Observation], list[Observation]] | None = None

    @property
    def is_bounded(self) -> bool:
        """Whether the history is so long that only a part of it is looked at."""
        return self._known is not None and self._known.num_finished > max(MOST_FINISHED, self._n_startup_trials)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters that finished trials had."""
        if self._known is None:
            return super().infer_relative_search_space(study, trial)
        self._search_space_group = _SearchSpaceGroup()
        self._search_space_group._search_spaces = list(self._known.groups())
        return {name: space for group in self._known.groups() for name, space in group.items()}

    def sample_group(self, study: Study, trial: FrozenTrial, name: str) -> dict[str, Any]:
        """A parameter with all that always come with it."""
        assert self._known is not None
        group = next((each for each in self._known.groups() if name in each), None)
        return {} if group is None else self._sample(study, trial, group)

    def _sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._known is None:
            return super()._sample_relative(study, trial, search_space)
        if not search_space or self._known.num_finished < self._n_startup_trials:
            return {}
        return self._sample(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that no finished trial had, or any while there are too few of them."""
        if self._known is None:
            return super().sample_independent(study, trial, param_name, param_distribution)
        if self._known.num_finished < self._n_startup_trials:
            return self._random_sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._sample(study, trial, {param_name: param_distribution})[param_name]

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        if self._known is None:
            return super()._sample(study, trial, search_space)
        if self._split is None:
            split = self._known.split_lately if self.is_bounded else self._known.split
            self._split = split(trial.number)
        below, above = (self._estimator(search_space, observations) for observations in self._split)
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: space.to_external_repr(best[name]) for name, space in search_space.items()}

    def _estimator(
        self, search_space: Mapping[str, BaseDistribution], observations: Sequence[Observation]
    ) -> _ParzenEstimator:
        names = list(search_space)
        wanted, values = set(names), itemgetter(*names)
        rows = [values(each) for each in observations if wanted <= each.keys()]
        values_NP = np.array(rows, dtype=float).reshape(len(rows), len(names))  # N trials, P parameters
        columns = {name: values_NP[:, column] for column, name in enumerate(names)}
        return _ParzenEstimator(columns, dict(search_space), self._parzen_estimator_parameters)

"""AutoSeM: a bandit chooses the task. Guo, Pasunuru, Bansal, NAACL 2019, stage 1 (Algorithm 1), arXiv 1904.04153.

Each task has Beta(α_k, β_k), at first (1, 1). A round serves the task whose draw θ_k ~ Beta(α_k, β_k) is largest;
its reward r is 1 if validation has improved since the round before, else 0. Then every (α, β) decays towards (1, 1),
and (r, 1 − r) is added to the served task's.

Where we deviate. A round is an epoch, since validation is measured after one, and each gives one observation. The
round's task is favoured: half of the epoch's steps serve it, the others are drawn one by one, so that no task waits
for an epoch. Were all of them drawn one by one, every epoch would have about the same mixture, and all tasks the same
reward. There is no primary task: validation is the trial's objective. The paper ranks auxiliary tasks by mean utility
α/(α + β) and trains anew on the best; here a task is dropped for the rest of the trial once it is improbable, by the
posteriors, that it is more useful than the others together. A bound on the utility itself would not do: a task that
looks bad is not favoured, and so never looks worse, while after convergence no epoch improves and all look bad. Its
second stage, a Gaussian process over mixing ratios, is what the search is for.

Axes: K tasks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from math import exp, log
from typing import Any

from mtlsearch.config import AutoSemConfig
from mtlsearch.data.task_sampling.schedule import Schedule, normalised
from mtlsearch.records import derive_seed

PRIOR = 1.0
"""α and β without evidence."""

FAVOURED = 0.5
"""Share of an epoch's steps that serve the round's task, apart from those that are drawn."""

LEAST_AGAINST = 0.5
"""What must be left of the rounds in which validation did not improve for a task to be dropped."""

GRID = [(index + 0.5) / 400 for index in range(400)]
"""Where densities are looked at."""


class AutoSem(Schedule):
    """Thompson sampling.

    Args:
        able: which tasks have labels at all; the others are never served.
    """

    def __init__(self, config: AutoSemConfig, able: Sequence[bool], seed: int) -> None:
        super().__init__(len(able), seed)
        self._config, self._able = config, list(able)
        self._alpha, self._beta = [PRIOR] * len(able), [PRIOR] * len(able)
        self._dropped: list[int] = []

    @property
    def utilities(self) -> tuple[float, ...]:
        """α/(α + β) of each task."""
        return tuple(alpha / (alpha + beta) for alpha, beta in zip(self._alpha, self._beta, strict=True))

    @property
    def weights(self) -> tuple[float, ...]:
        """Utilities of sum 1, 0 for a task that was dropped. Thompson's probabilities rank alike but are others."""
        left = self._left
        return normalised([utility if task in left else 0.0 for task, utility in enumerate(self.utilities)])

    @property
    def dropped(self) -> tuple[int, ...]:
        """In the order in which they were dropped."""
        return tuple(self._dropped)

    def reward(self, improved: bool) -> None:
        """After an epoch: whether validation is better than after the one before."""
        decay, favoured = self._config.decay, self._favoured()
        for task, share in enumerate(self.shares):
            seen = task == favoured and share > 0  # it may have had no labels in what was read
            self._alpha[task] = decay * self._alpha[task] + (1 - decay) * PRIOR + (seen and improved)
            self._beta[task] = decay * self._beta[task] + (1 - decay) * PRIOR + (seen and not improved)
        self._drop()

    def _drop(self) -> None:
        """Never the most useful one, nor one that no round has spoken against: it may not have been favoured yet."""
        utilities, left = self.utilities, self._left
        best = max(left, key=lambda task: utilities[task], default=-1)
        wrong = [task for task in left if task != best and self._beta[task] - PRIOR >= LEAST_AGAINST]
        self._dropped += [task for task in wrong if self._as_useful(task, left) < self._config.drop_below]

    def _as_useful(self, task: int, left: Sequence[int]) -> float:
        """The probability that a task is more useful than the others that are left are together."""
        alpha, beta = (
            PRIOR + sum(evidence[other] - PRIOR for other in left if other != task)
            for evidence in (self._alpha, self._beta)
        )
        return exceeds((self._alpha[task], self._beta[task]), (alpha, beta))

    def _favoured(self) -> int:
        """The task of the round: α and β change after it only, so that it is the same for all of its steps."""
        draw = random.Random(derive_seed(self._seed, "round", self._epoch))
        left = self._left
        return self._best(draw, [task in left for task in range(self._num_tasks)]) if left else -1

    @property
    def _left(self) -> list[int]:
        return [task for task, able in enumerate(self._able) if able and task not in self._dropped]

    def _choose(self, draw: random.Random, allowed: Sequence[bool]) -> int:
        favoured = self._favoured()
        if draw.random() < FAVOURED and favoured >= 0 and allowed[favoured]:
            return favoured
        return self._best(draw, allowed)

    def _best(self, draw: random.Random, allowed: Sequence[bool]) -> int:
        """The allowed task whose θ is largest."""
        thetas = [draw.betavariate(alpha, beta) for alpha, beta in zip(self._alpha, self._beta, strict=True)]
        return max((task for task, able in enumerate(allowed) if able), key=lambda task: thetas[task])

    def state_dict(self) -> dict[str, Any]:
        """With α, β and what was dropped."""
        own = {"alpha": list(self._alpha), "beta": list(self._beta), "dropped": list(self._dropped)}
        return super().state_dict() | own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        super().load_state_dict(state)
        self._alpha, self._beta, self._dropped = (list(state[name]) for name in ("alpha", "beta", "dropped"))


def exceeds(one: tuple[float, float], other: tuple[float, float]) -> float:
    """P(x > y) of x ~ Beta(one) and y ~ Beta(other), by the midpoints of a grid; parameters are 1 at least."""
    mass_x, mass_y = _masses(*one), _masses(*other)
    below_y = [below - mass / 2 for below, mass in zip(accumulate(mass_y), mass_y, strict=True)]
    return sum(mass * below for mass, below in zip(mass_x, below_y, strict=True))


def _masses(alpha: float, beta: float) -> list[float]:
    logs = [(alpha - 1) * log(x) + (beta - 1) * log(1 - x) for x in GRID]
    most = max(logs)  # taken off: nothing underflows
    return list(normalised([exp(each - most) for each in logs]))

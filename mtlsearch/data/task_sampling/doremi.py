"""DoReMi: tasks that lose more than a reference are served more. Xie et al., NeurIPS 2023, Algorithm 1,
arXiv 2305.10429.

    excess_k = max(ℓ_k − ℓ_ref,k, 0)
    w'_k ∝ w_k · exp(η · excess_k)
    w_k  = (1 − c) · w'_k + c/K

from w = 1/K. The result is the mean of w over all steps.

Where we deviate. Domains are tasks. The paper weights the losses of a batch of all domains; here w are probabilities
of batches of one task, so that tasks with labels in different rows work, and a step tells one task's loss: weights are
updated every few steps from the tasks' mean losses in them. A task that was not served since keeps its last excess;
one that was never served has the largest of the others, and so is served soon. The excess of the mean loss is cut at
0, not each token's. The reference is each single-task baseline's training loss in its best epoch, else the best
constant.

Axes: K tasks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import exp, isfinite, isnan, nan
from typing import Any

from mtlsearch.config import DoReMiConfig
from mtlsearch.data.task_sampling.schedule import Schedule, drawn, normalised


class DoReMi(Schedule):
    """Multiplicative weights.

    Args:
        references: ℓ_ref of each task.
        able: which tasks have labels at all; the others weigh 0.
    """

    def __init__(self, config: DoReMiConfig, references: Sequence[float], able: Sequence[bool], seed: int) -> None:
        super().__init__(len(references), seed)
        self._config, self._references, self._able = config, list(references), list(able)
        self._weights = list(normalised([float(each) for each in able]))
        self._excess = [nan] * len(references)
        self._sum, self._steps = [0.0] * len(references), 0

    @property
    def weights(self) -> tuple[float, ...]:
        """w_k."""
        return tuple(self._weights)

    @property
    def mean_weights(self) -> tuple[float, ...]:
        """w_k over all steps so far."""
        return tuple(total / max(1, self._steps) for total in self._sum)

    def observe(self, losses: Sequence[float]) -> None:
        """One update.

        Args:
            losses: of each task, the mean over the steps since the last update; NaN for one that was not served.
        """
        for task, (loss, reference) in enumerate(zip(losses, self._references, strict=True)):
            if isfinite(loss):
                self._excess[task] = max(loss - reference, 0.0)
        largest = max((excess for excess in self._excess if not isnan(excess)), default=0.0)
        excess = [largest if isnan(each) else each for each in self._excess]
        # exp of what is left after the largest is taken off: the ratio is the same, and nothing overflows
        grown = [w * exp(self._config.eta * (e - largest)) for w, e in zip(self._weights, excess, strict=True)]
        even, c = 1 / max(1, sum(self._able)), self._config.smoothing
        shares = zip(normalised(grown), self._able, strict=True)
        self._weights = [(1 - c) * share + c * even if able else 0.0 for share, able in shares]

    def _choose(self, draw: random.Random, allowed: Sequence[bool]) -> int:
        self._sum = [total + weight for total, weight in zip(self._sum, self._weights, strict=True)]
        self._steps += 1
        return drawn(draw, self._weights, allowed)

    def state_dict(self) -> dict[str, Any]:
        """With weights, their sum over steps, and the last excess of each task."""
        own = {"weights": list(self._weights), "excess": list(self._excess)}
        return super().state_dict() | own | {"sum": list(self._sum), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        super().load_state_dict(state)
        self._weights, self._excess, self._sum = (list(state[name]) for name in ("weights", "excess", "sum"))
        self._steps = state["steps"]

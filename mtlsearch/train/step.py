"""One training step. Logging, schedules and evaluation belong to the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlsearch.balancing import BalancedStep, Balancer
from mtlsearch.train.distributed import World
from mtlsearch.train.losses import BatchLosses


@dataclass(frozen=True)
class StepResult:
    """What one step saw, detached."""

    balanced: BalancedStep
    grad_norm: Tensor


def train_step(losses: BatchLosses, balancer: Balancer, optimizer: Optimizer, clip_norm: float | None) -> StepResult:
    """Gradients from the balancer, clipped, and one update."""
    optimizer.zero_grad(set_to_none=True)
    balanced = balancer.backward(losses)
    parameters = list(losses.parameters.values())
    grad_norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, grad_norm)
    optimizer.step()
    return StepResult(balanced, grad_norm)


class Means(NamedTuple):
    """Of one rank, on its device."""

    loss_K: Tensor
    """0 for a task that was not served, which tells nothing of it."""
    served_K: Tensor
    """bool: whether some step had a label of the task."""
    weights_K: Tensor
    grad_norm: Tensor
    penalties: dict[str, Tensor]


class EpochMeans:
    """Means over an epoch's steps, kept on the device so that no step waits for them."""

    def __init__(self) -> None:
        self.num_steps = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, result: StepResult) -> None:
        """Counts one step."""
        losses = result.balanced.losses
        loss_K = losses.loss_K
        if self.num_steps == 0:
            self._sums = {"present": torch.zeros_like(loss_K), "finite": torch.zeros_like(loss_K)}
        values = {"loss": loss_K, "weights": result.balanced.weights_K, "norm": result.grad_norm, **losses.penalties}
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value if self.num_steps else value
        self._sums["present"] += losses.present_K
        self._sums["finite"] += self._sums["loss"].isfinite()  # a sum that is not stays so
        self.num_steps += 1

    def first_bad(self) -> Tensor:
        """[K]: step, from 1, at which each task's loss was first not finite; one after the last where it always was."""
        return self._sums["finite"] + 1

    def means(self) -> Means:
        """Over the steps so far; a task's loss over those in which it had a label."""
        sums = dict(self._sums)
        present_K = sums.pop("present")
        loss_K = sums.pop("loss") / present_K.clamp(min=1)
        del sums["finite"]
        means = {name: total / self.num_steps for name, total in sums.items()}
        return Means(loss_K, present_K > 0, means.pop("weights"), means.pop("norm"), means)

    def state_dict(self) -> dict[str, Any]:
        """What an epoch that is gone on with needs."""
        return {"num_steps": self.num_steps, "sums": self._sums}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> EpochMeans:
        """From `state_dict()`."""
        means = cls()
        means.num_steps, means._sums = state["num_steps"], dict(state["sums"])
        return means

    def over_ranks(self, world: World) -> EpochMeans:
        """The same on every rank: the mean of all."""
        sums = {name: world.sum(total.clone()) / world.size for name, total in self._sums.items()}
        sums["finite"] = world.least(self._sums["finite"].clone())
        return EpochMeans.of({"num_steps": self.num_steps, "sums": sums})

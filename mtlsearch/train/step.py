"""One training step. Logging, schedules and evaluation belong to the caller."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mtlsearch.balancing import BalancedStep, Balancer
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


class EpochMeans:
    """Means over an epoch's steps, kept on the device so that no step waits for them."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._steps = 0

    def add(self, result: StepResult) -> None:
        """Counts one step."""
        values = [result.balanced.loss_K, result.balanced.weights_K, result.grad_norm]
        if self._steps == 0:
            self._sums = [torch.zeros_like(value) for value in values]
        for total, value in zip(self._sums, values, strict=True):
            total += value
        self._steps += 1

    def means(self) -> tuple[Tensor, Tensor, Tensor]:
        """loss_K, weights_K and the gradient's norm."""
        loss_K, weights_K, norm = (total / self._steps for total in self._sums)
        return loss_K, weights_K, norm

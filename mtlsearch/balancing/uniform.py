"""The plain sum of the task losses, every weight 1: the baseline of every balancing method.

Axes: K tasks.
"""

from __future__ import annotations

import torch

from mtlsearch.balancing.base import BalancedStep, Balancer, TaskLosses


class Uniform(Balancer):
    """The gradient of Σ_k L_k."""

    def backward(self, losses: TaskLosses) -> BalancedStep:
        loss_K = losses()
        loss_K.sum().backward()  # type: ignore[no-untyped-call]
        loss_K = loss_K.detach()
        return BalancedStep(loss_K, torch.ones_like(loss_K))

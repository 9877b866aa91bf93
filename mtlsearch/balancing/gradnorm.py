"""GradNorm: weights learnt until each task's gradient has the norm that its progress asks for.

Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm", arXiv 1711.02257, algorithm 1 and equations 1 and 2:
G_k = ‖∇_W w_k L_k‖ at the last shared layer W, Ḡ = mean_k G_k, r_k = L̃_k / mean_i L̃_i, L̃_k = L_k / L_k(first step);
w follows the gradient of Σ_k |G_k - Ḡ r_k^α| with Ḡ r_k^α constant, then is scaled to sum K.
As in algorithm 1 the network's own step uses w from before that update.
Where we deviate: means are over the present tasks. An absent task keeps its weight and its moments in Adam, and those
present are scaled to the sum that they had. L_k(first step) is that of the first step at which the task is present.
Weights stay at 1e-3 or more: below 0 a step would climb. The gradient with respect to w_k is written out:
sign(G_k - Ḡ r_k^α) ‖∇_W L_k‖. A model that shares no layer has norms of 0, and its weights stay 1.

Axes: K tasks, S entries of the last shared layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlsearch.balancing.base import BalancedStep, Losses, TaskLosses
from mtlsearch.balancing.parting import TaskStarts
from mtlsearch.balancing.weighting import Weighting, weighted_backward
from mtlsearch.config import GradNormConfig

LEAST_WEIGHT = 1e-3
LEAST_LOSS = 1e-12
"""What a loss of 0 divides as."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's."""


class GradNorm(Weighting):
    """Beside the weighted backward pass, one of each task's from its loss down to the last shared layer."""

    def __init__(self, config: GradNormConfig, num_tasks: int) -> None:
        super().__init__()
        self.config = config
        zero_K = torch.zeros(num_tasks)
        self.kept = {"weights_K": torch.ones(num_tasks), "first_K": zero_K}
        self.kept |= {"steps_K": zero_K, "mean_K": zero_K, "square_K": zero_K}

    def backward(self, losses: TaskLosses) -> BalancedStep:
        found = losses()
        loss_K, norm_K = measured(losses, found)
        before_K = self.weights(loss_K, found.present_K)
        self.update(self.slope(loss_K, norm_K, found.present_K), found.present_K)
        return weighted_backward(losses, found, before_K)

    def weights(self, loss_K: Tensor, present_K: Tensor) -> Tensor:
        new_K = present_K & (self.kept["steps_K"] == 0)
        self.kept["first_K"] = torch.where(new_K, loss_K, self.kept["first_K"])
        return self.kept["weights_K"]

    def slope(self, loss_K: Tensor, norm_K: Tensor, present_K: Tensor) -> Tensor:
        """Of Σ_k |G_k - Ḡ r_k^α| with respect to w."""
        g_K = self.kept["weights_K"] * norm_K
        target_K = mean(g_K, present_K) * self.rate(loss_K, present_K).pow(self.config.asymmetry)
        return (g_K - target_K).sign() * norm_K

    def rate(self, loss_K: Tensor, present_K: Tensor) -> Tensor:
        """r_K: above 1 for tasks that have come less far than the others."""
        left_K = loss_K / self.kept["first_K"].clamp(min=LEAST_LOSS)
        return left_K / mean(left_K, present_K).clamp(min=LEAST_LOSS)

    def update(self, slope_K: Tensor, present_K: Tensor) -> None:
        """A step of Adam on the weights of the present tasks, which keep their sum."""
        old_K, _, steps_K, mean_K, square_K = self.kept.values()
        steps_K = steps_K + 1
        mean_K = BETA1 * mean_K + (1 - BETA1) * slope_K
        square_K = BETA2 * square_K + (1 - BETA2) * slope_K.square()
        root_K = (square_K / filled(BETA2, steps_K)).sqrt() + EPSILON
        moved_K = old_K - self.config.lr * mean_K / filled(BETA1, steps_K) / root_K
        moved_K = moved_K.clamp(min=LEAST_WEIGHT)
        moved_K = moved_K * mean(old_K, present_K) / mean(moved_K, present_K)
        changed = {"weights_K": moved_K, "steps_K": steps_K, "mean_K": mean_K, "square_K": square_K}
        self.kept |= {name: torch.where(present_K, value, self.kept[name]) for name, value in changed.items()}


def filled(beta: float, steps_K: Tensor) -> Tensor:
    """1 - β^steps: how much of a running mean is filled; exact also in single precision."""
    return -torch.expm1(steps_K * math.log(beta))


def measured(losses: TaskLosses, found: Losses) -> tuple[Tensor, Tensor]:
    """Of the whole batch, loss_K and the norms of its gradients at the last shared layer, averaged over ranks first.

    Hooks by which a wrapped model averages over ranks do not run in these backward passes.
    """
    shared = [losses.parameters[name] for name in losses.last_shared_names]
    if not shared:
        (loss_K,) = losses.mean_over_ranks([found.loss_K.detach()])
        return loss_K, torch.zeros_like(loss_K)
    starts = TaskStarts(found)
    rows = [row(starts.gradient(task, shared), shared) for task in range(losses.num_tasks)]
    loss_K, gradient_KS = losses.mean_over_ranks([found.loss_K.detach(), torch.stack(rows)])
    return loss_K, gradient_KS.norm(dim=1)


def row(gradients: Sequence[Tensor | None], shared: Sequence[Tensor]) -> Tensor:
    """A loss' gradients at the last shared layer as one vector."""
    pieces = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, shared, strict=True)]
    return torch.cat([piece.flatten() for piece in pieces])


def mean(value_K: Tensor, present_K: Tensor) -> Tensor:
    """Over the present tasks."""
    return value_K.masked_fill(~present_K, 0.0).sum() / present_K.sum()

"""The gates of a mixture of experts, all K of them as one matrix product.

Ma et al., KDD 2018, 10.1145/3219819.3220007, eq. 6 and 7: f^k(x) = Σ_e g^k(x)_e f_e(x) with
g^k(x) = softmax(W^k x), without a bias. A closed gate is closed before the softmax: its logit is -inf, so its
weight is exactly zero and the open ones sum to one.
Expert dropout: Zhao et al., RecSys 2019, 10.1145/3298689.3346997, section 4: in training each gate weight is set to
zero with a small probability, and the others are scaled to sum to one again. The paper does not say per what unit: here
it is drawn for each prediction, task and expert. Where all of a task's experts would go, none does.

Axes: P predictions, K tasks, E experts, I inputs, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.models.linear import linear_parameter

SMALL_PRODUCT = 400
"""Multiplications below which a CPU's `torch.bmm` is a plain loop, several times slower."""


class Gates(nn.Module):
    """K softmax gates over E experts."""

    def __init__(
        self,
        num_tasks: int,
        num_experts: int,
        num_inputs: int,
        generator: torch.Generator,
        *,
        expert_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight_KEI = linear_parameter((num_tasks, num_experts, num_inputs), num_inputs, generator)
        self.expert_dropout = expert_dropout

    def forward(self, x_PI: Tensor, open_KE: Tensor | None = None) -> Tensor:
        """gate_PKE; every task needs an open expert."""
        num_tasks, num_experts, _ = self.weight_KEI.shape
        # The predictions are the last axis here: a CPU's softmax over a short last axis is several times slower.
        logit_KEP = (self.weight_KEI.flatten(0, 1) @ x_PI.t()).view(num_tasks, num_experts, -1)
        return self.weights(logit_KEP, open_KE)

    def of_task(self, task: int, x_PI: Tensor, open_KE: Tensor | None = None) -> Tensor:
        """gate_P1E of one task; the other gates do not run."""
        logit_1EP = (self.weight_KEI[task] @ x_PI.t()).unsqueeze(0)
        return self.weights(logit_1EP, None if open_KE is None else open_KE[task : task + 1])

    def weights(self, logit_KEP: Tensor, open_KE: Tensor | None = None) -> Tensor:
        """gate_PKE of logits."""
        if open_KE is not None:
            logit_KEP = logit_KEP.masked_fill(~open_KE.unsqueeze(2), float("-inf"))
        if self.training and self.expert_dropout > 0:
            logit_KEP = without_some(logit_KEP, self.expert_dropout)
        return with_contiguous_slopes(logit_KEP.softmax(1).permute(2, 0, 1).contiguous())


def with_contiguous_slopes(x: Tensor) -> Tensor:
    """The same tensor; its gradients are contiguous, and theirs.

    Otherwise a second gradient comes here in the logits' layout. A CPU's `torch.bmm` knows few layouts: of others it
    takes the products one prediction at a time, which was half of a second-order step.
    """
    if x.requires_grad:
        x.register_hook(lambda slope: with_contiguous_slopes(slope.contiguous()))  # type: ignore[no-untyped-call]
    return x


def without_some(logit_KEP: Tensor, share: float) -> Tensor:
    """Logits with some experts closed, so that the softmax scales the others.

    The quotient of weights is the same until the dropped one has all of the weight, which is when it matters most:
    what is left of the others then has underflown.
    """
    kept_KEP = torch.rand_like(logit_KEP, dtype=torch.float32) >= share
    any_K1P = (kept_KEP & (logit_KEP > float("-inf"))).any(1, keepdim=True)
    return logit_KEP.masked_fill(~kept_KEP & any_K1P, float("-inf"))


def mix(gate_PKE: Tensor, f_EPH: Tensor) -> Tensor:
    """Each task's mixture of the experts, mixed_KPH."""
    return torch.bmm(gate_PKE, f_EPH.transpose(0, 1)).transpose(0, 1)


def mix_one(gate_P1E: Tensor, f_EPH: Tensor) -> Tensor:
    """One task's mixture, mixed_PH."""
    f_PEH = f_EPH.transpose(0, 1)
    if f_EPH.shape[0] * f_EPH.shape[2] < SMALL_PRODUCT:
        return (gate_P1E.transpose(1, 2) * f_PEH).sum(1)
    return torch.bmm(gate_P1E, f_PEH).squeeze(1)

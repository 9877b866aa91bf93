"""The gates of a mixture of experts, all K of them as one matrix product.

Ma et al., KDD 2018, 10.1145/3219819.3220007, eq. 6 and 7: f^k(x) = Σ_e g^k(x)_e f_e(x) with
g^k(x) = softmax(W^k x), without a bias. A closed gate is closed before the softmax: its logit is -inf, so its
weight is exactly zero and the open ones sum to one.

Axes: P predictions, K tasks, E experts, I inputs, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.models.linear import linear_parameter


class Gates(nn.Module):
    """K softmax gates over E experts."""

    def __init__(self, num_tasks: int, num_experts: int, num_inputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_KEI = linear_parameter((num_tasks, num_experts, num_inputs), num_inputs, generator)

    def forward(self, x_PI: Tensor, open_KE: Tensor | None = None) -> Tensor:
        """gate_PKE; every task needs an open expert."""
        num_tasks, num_experts, _ = self.weight_KEI.shape
        # The predictions are the last axis here: a CPU's softmax over a short last axis is several times slower.
        logit_KEP = (self.weight_KEI.flatten(0, 1) @ x_PI.t()).view(num_tasks, num_experts, -1)
        if open_KE is not None:
            logit_KEP = logit_KEP.masked_fill(~open_KE.unsqueeze(2), float("-inf"))
        return logit_KEP.softmax(1).permute(2, 0, 1).contiguous()


def mix(gate_PKE: Tensor, f_EPH: Tensor) -> Tensor:
    """Each task's mixture of the experts, mixed_KPH."""
    return torch.bmm(gate_PKE, f_EPH.transpose(0, 1)).transpose(0, 1)

"""Fully connected experts, E side by side.

The first layer reads what all experts share, so it is one product [B, I] x [I, E·H]; deeper layers are a
batch of E products.

Axes: B batch, I inputs, E experts, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.models.linear import Dropout, HiddenLayers, SharedInputLinear


class DenseExperts(nn.Module):
    """ReLU layers of H units each, dropout after each."""

    def __init__(self, num_experts: int, sizes: tuple[int, ...], dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.first = SharedInputLinear(num_experts, sizes[0], sizes[1], generator)
        self.deeper = HiddenLayers(num_experts, sizes[1:], dropout, generator)
        self.dropout = Dropout(dropout)

    def forward(self, x_BI: Tensor) -> Tensor:
        """f_EBH."""
        h_BEH = self.dropout(torch.relu(self.first(x_BI)))
        f_EBH: Tensor = self.deeper(h_BEH.transpose(0, 1))
        return f_EBH

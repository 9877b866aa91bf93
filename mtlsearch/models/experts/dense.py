"""Fully connected experts, E side by side.

They read the step of the prediction alone. The first layer reads what all experts share, so it is one product
[P, I] x [I, E·H]; deeper layers are a batch of E products.

Axes: P predictions, I inputs, E experts, H hidden units.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.models.inputs import Features
from mtlsearch.models.linear import Dropout, HiddenLayers, SharedInputLinear


class DenseExperts(nn.Module):
    """ReLU layers of H units each, dropout after each."""

    def __init__(self, num_experts: int, sizes: tuple[int, ...], dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.first = SharedInputLinear(num_experts, sizes[0], sizes[1], generator)
        self.deeper = HiddenLayers(num_experts, sizes[1:], dropout, generator)
        self.dropout = Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        """f_EPH."""
        h_PEH = self.dropout(torch.relu(self.first(features.at_PI)))
        f_EPH: Tensor = self.deeper(h_PEH.transpose(0, 1))
        return f_EPH


class SeparateDenseExperts(nn.Module):
    """The same where each expert has inputs of its own, x_EPI: every layer is a batch of E products."""

    def __init__(self, num_experts: int, sizes: tuple[int, ...], dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = HiddenLayers(num_experts, sizes, dropout, generator)

    def forward(self, features: Features) -> Tensor:
        """f_EPH."""
        f_EPH: Tensor = self.hidden(features.at_PI)
        return f_EPH

"""Linear layers side by side: E of them, one matrix product.

Axes: E layers side by side, B batch, I inputs, H outputs.
Both weights lie so that the product's own gradient comes out contiguous: `Adam(fused=True)` on a CPU misreads
others.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear_parameter(shape: tuple[int, ...], num_inputs: int, generator: torch.Generator) -> nn.Parameter:
    """Uniform in ±1/√I, which is what nn.Linear draws its weight and its bias from."""
    bound = 1 / math.sqrt(num_inputs)
    return nn.Parameter(torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator))


class SharedInputLinear(nn.Module):
    """E layers that read the same input: one product [B, I] x [I, E·H]."""

    def __init__(self, num_layers: int, num_inputs: int, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_EHI = linear_parameter((num_layers, num_outputs, num_inputs), num_inputs, generator)
        self.bias_EH = linear_parameter((num_layers, num_outputs), num_inputs, generator)

    def forward(self, x_BI: Tensor) -> Tensor:
        """y_BEH."""
        num_layers, num_outputs, _ = self.weight_EHI.shape
        y_BM = F.linear(x_BI, self.weight_EHI.flatten(0, 1), self.bias_EH.flatten())
        return y_BM.view(-1, num_layers, num_outputs)


class BatchedLinear(nn.Module):
    """E layers that read an input each: a batch of E products."""

    def __init__(self, num_layers: int, num_inputs: int, num_outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight_EIH = linear_parameter((num_layers, num_inputs, num_outputs), num_inputs, generator)
        self.bias_EH = linear_parameter((num_layers, num_outputs), num_inputs, generator)

    def forward(self, x_EBI: Tensor) -> Tensor:
        """y_EBH."""
        return torch.baddbmm(self.bias_EH.unsqueeze(1), x_EBI, self.weight_EIH)


class HiddenLayers(nn.Module):
    """ReLU layers, E stacks side by side, dropout after each."""

    def __init__(self, num_stacks: int, sizes: tuple[int, ...], dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(BatchedLinear(num_stacks, i, h, generator) for i, h in pairs)
        self.dropout = Dropout(dropout)

    def forward(self, x_EBI: Tensor) -> Tensor:
        """h_EBH."""
        for layer in self.layers:
            x_EBI = self.dropout(torch.relu(layer(x_EBI)))
        return x_EBI


class Dropout(nn.Dropout):
    """nn.Dropout that costs nothing when its share is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.p > 0 else x

"""What an expert is made of: one file per kind. Experts read x_BI and give f_EBH."""

from __future__ import annotations

import torch
from torch import nn

from mtlsearch.config import ArchitectureConfig
from mtlsearch.models.experts.dense import DenseExperts

__all__ = ["DenseExperts", "build_experts"]


def build_experts(
    config: ArchitectureConfig, num_experts: int, num_inputs: int, generator: torch.Generator
) -> nn.Module:
    """`num_experts` experts of the kind, width and dropout that the architecture asks for."""
    sizes = (num_inputs, *[config.hidden] * config.expert.num_layers)
    return DenseExperts(num_experts, sizes, config.dropout, generator)

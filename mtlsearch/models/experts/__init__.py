"""What an expert is made of: one file per kind. Experts read features and give f_EPH, one row a prediction."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn

from mtlsearch.config import ArchitectureConfig, DenseConfig, GruConfig, LstmConfig, RnnConfig
from mtlsearch.models.experts.dense import DenseExperts, SeparateDenseExperts
from mtlsearch.models.experts.joined import JoinedExperts
from mtlsearch.models.experts.recurrent import RecurrentExperts
from mtlsearch.models.inputs import InputLayer

__all__ = ["DenseExperts", "JoinedExperts", "RecurrentExperts", "SeparateDenseExperts", "build_experts"]


def build_experts(
    config: ArchitectureConfig, num_experts: int, inputs: InputLayer, generator: torch.Generator
) -> nn.Module:
    """`num_experts` experts of the kind, width and dropout that the architecture asks for.

    Where `inputs` has embeddings of their own for N networks, these are the N experts, and each reads its own.
    """
    expert, hidden, dropout = config.expert, config.hidden, config.dropout
    own_inputs, layers = inputs.num_networks is not None, [hidden] * expert.num_layers
    match expert:
        case DenseConfig() if own_inputs:
            return SeparateDenseExperts(num_experts, (inputs.num_units, *layers), dropout, generator)
        case DenseConfig():
            return DenseExperts(num_experts, (inputs.num_units, *layers), dropout, generator)
        case GruConfig() | LstmConfig() | RnnConfig():
            sizes = (inputs.num_step_units, *layers)
            recurrent = RecurrentExperts(expert.kind, num_experts, sizes, dropout, generator)
            if inputs.num_row_units == 0:
                return recurrent
            return JoinedExperts(recurrent, num_experts, inputs.num_row_units, own_inputs, dropout, generator)
        case _:
            assert_never(expert)

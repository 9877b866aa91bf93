"""Perceiver IO: a few latent vectors read the inputs, and a task is a query that reads the latents.

Jaegle et al., "Perceiver IO: A General Architecture for Structured Inputs & Outputs", arXiv 2107.14795, section 3 and
appendix E: z = CrossAttn(Z, tokens), then `num_blocks` self-attention blocks over z, then y_k = CrossAttn(q_k, z) with
latents Z and queries q_k learnt, both from a normal with deviation .02 cut at two deviations. A query's own value is
added to what it reads, as for the paper's classifiers.
Where we deviate: a token is a group of neighbouring inputs projected by a matrix and a bias of its own (the bias is its
position), and one token more is what the expert makes of the inputs. So the whole is computed at each prediction by
itself, from inputs up to its step, where the paper's latents would read a sequence to its end. Blocks share no weights
(in the paper, 8 repeats of 6 blocks do); all attention has `num_heads` heads (paper: 8 in blocks, else 1); other
weights start as everywhere here, not from a scaled normal; a tower for each task reads its query's result (paper: one
linear layer); dropout, when asked for, is on the branches' outputs.

Axes: P predictions, I inputs, J groups of inputs, G inputs of a group, L latents, K tasks, H hidden units, O outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsearch.config import PerceiverIoConfig, Task
from mtlsearch.models.attention import AttentionBlock
from mtlsearch.models.base import MultiTaskModel
from mtlsearch.models.experts import build_experts
from mtlsearch.models.inputs import Inputs, InputSpec, build_inputs
from mtlsearch.models.linear import BatchedLinear
from mtlsearch.models.towers import build_towers

LEARNT_STD = 0.02
"""Of new latents and queries."""


class PerceiverIo(MultiTaskModel):
    """Tokens → latents → one result a task → towers."""

    def __init__(
        self, config: PerceiverIoConfig, inputs: InputSpec, tasks: tuple[Task, ...], generator: torch.Generator
    ) -> None:
        super().__init__(tasks)
        self.inputs = build_inputs(config, inputs, generator)
        self.tokens = Tokens(self.inputs.num_units, config.num_tokens, config.hidden, generator)
        self.expert = build_experts(config, 1, self.inputs, generator)
        self.latent_LH = learnt(config.num_latents, config.hidden, generator)
        self.query_KH = learnt(len(tasks), config.hidden, generator)

        def block(of_itself: bool) -> AttentionBlock:
            heads, hidden, dropout = config.num_heads, config.hidden, config.dropout
            return AttentionBlock(heads, hidden, generator, of_itself=of_itself, dropout=dropout)

        self.encoder = block(of_itself=False)
        self.blocks = nn.ModuleList(block(of_itself=True) for _ in range(config.num_blocks))
        self.decoder = block(of_itself=False)
        self.towers = build_towers(config, self.widths, generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_PO."""
        features = self.inputs(inputs)
        f_1PH = self.expert(features)
        token_PJH = torch.cat([self.tokens(features.at_PI), f_1PH.transpose(0, 1)], dim=1)
        z_PLH = self.encoder(self.latent_LH.unsqueeze(0), token_PJH)
        for block in self.blocks:
            z_PLH = block(z_PLH)
        y_PKH = self.decoder(self.query_KH.unsqueeze(0), z_PLH)
        outputs_PO: Tensor = self.towers(y_PKH.transpose(0, 1))
        return outputs_PO


class Tokens(nn.Module):
    """Neighbouring inputs in at most `num_tokens` groups of equal size, zeros behind the last one's end."""

    def __init__(self, num_inputs: int, num_tokens: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        group = -(-num_inputs // num_tokens)
        num_groups = -(-num_inputs // group)
        self.num_missing = num_groups * group - num_inputs
        self.linear = BatchedLinear(num_groups, group, hidden, generator)

    def forward(self, x_PI: Tensor) -> Tensor:
        """token_PJH."""
        num_groups = self.linear.weight_EIH.shape[0]
        x_PJG = F.pad(x_PI, (0, self.num_missing)).view(x_PI.shape[0], num_groups, -1)
        token_JPH: Tensor = self.linear(x_PJG.transpose(0, 1))
        return token_JPH.transpose(0, 1)


def learnt(num_vectors: int, hidden: int, generator: torch.Generator) -> nn.Parameter:
    """Vectors that are the same for all inputs: quantiles of what is uniform between those of the two cuts."""
    cut = math.erf(math.sqrt(2))  # the share of a normal within two deviations
    uniform_LH = torch.empty(num_vectors, hidden, device=generator.device).uniform_(-cut, cut, generator=generator)
    return nn.Parameter(LEARNT_STD * math.sqrt(2) * torch.special.erfinv(uniform_LH))

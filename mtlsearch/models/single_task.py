"""Single-task learning: K networks that share nothing, the reference of Δ (arXiv 1904.08918).

Each has the shape of a shared bottom for one task: embeddings, one expert, one tower. All are computed side
by side, and no parameter or unit of one reaches another.

Axes: B batch, F numeric columns, I inputs, K tasks, d embedding units of a column, H hidden units, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtlsearch.config import SingleTaskConfig
from mtlsearch.models.base import MultiTaskModel
from mtlsearch.models.inputs import Embeddings, Inputs, InputSpec
from mtlsearch.models.linear import HiddenLayers
from mtlsearch.models.towers import build_towers


class SingleTask(MultiTaskModel):
    """K embeddings, K experts, K towers; nothing of task k reaches task j's output."""

    def __init__(
        self, config: SingleTaskConfig, inputs: InputSpec, widths: tuple[int, ...], generator: torch.Generator
    ) -> None:
        super().__init__(widths)
        self.embeddings = Embeddings(inputs.cardinalities, len(widths), generator)
        num_inputs = inputs.num_numeric + self.embeddings.num_units
        sizes = (num_inputs, *[config.hidden] * config.expert.num_layers)
        self.experts = HiddenLayers(len(widths), sizes, config.dropout, generator)
        self.towers = build_towers(config, widths, generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_BO."""
        numeric_BKF = inputs.numeric_BF.unsqueeze(1).expand(-1, self.num_tasks, -1)
        x_BKI = torch.cat([numeric_BKF, *self.embeddings(inputs.categorical_BC)], dim=2)
        outputs_BO: Tensor = self.towers(self.experts(x_BKI.transpose(0, 1)))
        return outputs_BO

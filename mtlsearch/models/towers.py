"""The towers h^k, one a task, computed side by side.

Axes: K tasks, P predictions, H units of the representation, W width of the widest output, O = Σ widths outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.config import ArchitectureConfig
from mtlsearch.models.linear import BatchedLinear, HiddenLayers


class Towers(nn.Module):
    """Hidden layers and an output layer for each task.

    All output layers have the widest task's width, so that they are one product; where the widths differ, the
    surplus columns are left out of the output and never get a gradient.
    """

    columns_O: Tensor | None

    def __init__(
        self, sizes: tuple[int, ...], widths: tuple[int, ...], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        widest = max(widths)
        self.hidden = HiddenLayers(len(widths), sizes, dropout, generator)
        self.head = BatchedLinear(len(widths), sizes[-1], widest, generator)
        columns = [k * widest + column for k, width in enumerate(widths) for column in range(width)]
        uneven = len(columns) < len(widths) * widest
        self.register_buffer("columns_O", torch.tensor(columns) if uneven else None, persistent=False)

    def forward(self, x_KPH: Tensor) -> Tensor:
        """outputs_PO, in task order."""
        outputs_KPW: Tensor = self.head(self.hidden(x_KPH))
        outputs_PO = outputs_KPW.transpose(0, 1).flatten(1)
        return outputs_PO if self.columns_O is None else outputs_PO.index_select(1, self.columns_O)


def build_towers(config: ArchitectureConfig, widths: tuple[int, ...], generator: torch.Generator) -> Towers:
    """Towers of the shape that the architecture asks for."""
    sizes = (config.hidden, *[config.tower_hidden] * config.tower_layers)
    return Towers(sizes, widths, config.dropout, generator)

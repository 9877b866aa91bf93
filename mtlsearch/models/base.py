"""What every architecture is.

Axes: P predictions (the rows of a table, or the steps of sequences at which an output is wanted), O outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mtlsearch.models.inputs import Inputs


class MultiTaskModel(nn.Module, ABC):
    """A batch in, all tasks' outputs side by side out.

    `forward` keeps no state and takes no decision on the data, so `torch.func.functional_call` and `torch.export`
    work on every model, and `torch.func.vmap` over stacked copies on those whose experts are not recurrent.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        assert widths, "a model needs at least one task"
        self.widths = widths
        """Outputs of each task."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_PO, O = Σ widths, in task order."""

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.widths)

    @property
    def num_parameters(self) -> int:
        """Numbers that training can change."""
        return sum(parameter.numel() for parameter in self.parameters())

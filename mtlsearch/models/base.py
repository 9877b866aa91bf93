"""What every architecture is, and the one channel by which it has a say in training.

An architecture gives outputs. What else it wants of a training step, it says by overriding one of these:

- `regularized`: its own regularisers beside the outputs. The step adds them to what the balancer makes of the task
  losses, once and unweighted, and records them by name.
- `lr_factors`: parameters that learn at a multiple of the optimiser's rate.
- `EpochAware.begin_epoch`: what changes from epoch to epoch (a temperature, a snapshot of weights).
- `target_replication`: a sequence's label repeated at all of its steps.
- `mixture`: gates and experts, for diagnostics.

Axes: P predictions (the rows of a table, or the steps of sequences at which an output is wanted), O outputs, K tasks,
E experts, H hidden units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from mtlsearch.config import Task
from mtlsearch.models.inputs import Inputs
from mtlsearch.models.towers import Towers, comparable_weights

if TYPE_CHECKING:
    from mtlsearch.models.deep_relation import TowerRelation

Penalties = Mapping[str, Tensor]
"""Regularisers by name, scaled by their strengths: a scalar, or one value a prediction, penalty_P, whose mean over the
whole batch, over all ranks, counts."""


class Regularized(NamedTuple):
    """What a training step sees of a model."""

    outputs_PO: Tensor
    penalties: Penalties


class Mixture(NamedTuple):
    """A mixture of experts at some predictions."""

    gate_PKE: Tensor
    """How much each task takes of each expert; 0 where its gate is closed."""
    f_EPH: Tensor
    """What the experts give."""


@dataclass(frozen=True)
class Epoch:
    """Where training stands, alike on all ranks."""

    number: int
    """Counts from 1."""
    last: int
    """How many there will be at most."""
    seed: int
    """Of whatever is drawn in this epoch and must be alike on all ranks."""


class EpochAware(ABC):
    """A model, or a part of one, that changes from epoch to epoch."""

    @abstractmethod
    def begin_epoch(self, epoch: Epoch) -> None:
        """Before the epoch's first step. What it sets must be in the state, as buffers are: checkpoints hold it."""


class MultiTaskModel(nn.Module, ABC):
    """A batch in, all tasks' outputs side by side out.

    `forward` keeps no state and takes no decision on the data, so `torch.func.functional_call` and `torch.export`
    work on every model, and `torch.func.vmap` over stacked copies on those whose layers are dense.
    """

    target_replication: float = 0.0
    """Weight of a sequence's one label repeated at all steps up to its own, which keeps the rest; in training."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        assert tasks, "a model needs at least one task"
        self.tasks = tasks
        self.relation: TowerRelation | None = None

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_PO, O = Σ widths, in task order."""

    def regularized(self, inputs: Inputs) -> Regularized:
        """outputs_PO and what the model itself adds to the loss."""
        return Regularized(self(inputs), {})

    def penalised(self, inputs: Inputs) -> Regularized:
        """outputs_PO and all regularisers, the architecture's own and those that it was given."""
        outputs_PO, penalties = self.regularized(inputs)
        if self.relation is None:
            return Regularized(outputs_PO, penalties)
        return Regularized(outputs_PO, {**penalties, "deep_relation": self.relation()})

    def tower_weights(self) -> list[Tensor]:
        """Weights of the tower layers that have one shape for all tasks, each [K, I, H]; be it one `Towers` or many."""
        return comparable_weights([module for module in self.modules() if isinstance(module, Towers)])

    def of_task(self, task: int, inputs: Inputs) -> Tensor:
        """One task's columns of outputs_PO; what only other tasks need is left out where the architecture allows it."""
        outputs_PO: Tensor = self(inputs)
        first = sum(self.widths[:task])
        return outputs_PO[:, first : first + self.widths[task]]

    @property
    def own_modules(self) -> list[nn.Module]:
        """Parts whose parameters belong to single tasks: every entry is in the way to one task's outputs alone."""
        return [module for module in self.modules() if isinstance(module, Towers)]

    @cached_property
    def parting(self) -> Towers | None:
        """The towers before which the tasks' ways part: a task's loss depends on the shared parameters through its
        slice of the towers' input x_KPH alone."""
        towers = [module for module in self.modules() if isinstance(module, Towers)]
        return towers[0] if len(towers) == 1 else None

    @property
    def own_names(self) -> frozenset[str]:
        """Names of the parameters that belong to single tasks. All others are shared."""
        own = {parameter for module in self.own_modules for parameter in module.parameters()}
        return frozenset(name for name, parameter in self.named_parameters() if parameter in own)

    @property
    def last_shared_names(self) -> tuple[str, ...]:
        """Parameters of the last shared layer: of the module that owns the last shared parameter."""
        shared = [name for name, _ in self.named_parameters() if name not in self.own_names]
        if not shared:
            return ()
        owner = shared[-1].rpartition(".")[0]
        return tuple(name for name in shared if name.rpartition(".")[0] == owner)

    def mixture(self, inputs: Inputs) -> Mixture | None:
        """The experts and who takes how much of them; None where there is no mixture."""
        return None

    @property
    def lr_factors(self) -> Mapping[str, float]:
        """Parameter's name → what the optimiser's learning rate is multiplied with; 1 for those not named."""
        return {}

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of each task."""
        return tuple(task.num_outputs for task in self.tasks)

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)

    @property
    def num_parameters(self) -> int:
        """Numbers that training can change."""
        return sum(parameter.numel() for parameter in self.parameters())


def begin_epoch(model: nn.Module, epoch: Epoch) -> None:
    """Tells every part of the model that wants to know."""
    for module in model.modules():
        if isinstance(module, EpochAware):
            module.begin_epoch(epoch)

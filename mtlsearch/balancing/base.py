"""The contract between a balancing method and the training step.

Axes: K tasks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

Part = Literal["all", "inner", "outer"]
"""Which rows of the batch: all of them, or one side of the split that `Balancer.inner_fraction` asks for."""


class Losses(NamedTuple):
    """What a batch's loss is made of."""

    loss_K: Tensor
    """One a task; 0 for a task without a label."""
    penalties: Mapping[str, Tensor]
    """The model's own regularisers by name, scalars, scaled already: they are added once, whatever the tasks weigh."""
    present_K: Tensor
    """bool: which tasks have a label in the part, on any rank. The others have loss 0 and take no part in the step."""
    parting_KPH: Tensor | None = None
    """What the towers read, if task k's loss depends on the shared parameters through slice k alone."""

    @property
    def penalty(self) -> Tensor:
        """Their sum."""
        return torch.stack(list(self.penalties.values())).sum() if self.penalties else self.loss_K.new_zeros(())

    def detached(self) -> Losses:
        """The same numbers without their graph."""
        penalties = {name: value.detach() for name, value in self.penalties.items()}
        return Losses(self.loss_K.detach(), penalties, self.present_K)


class TaskLosses(Protocol):
    """One batch's losses as functions of the parameters."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The model's own, by name."""

    @property
    def own_names(self) -> frozenset[str]:
        """Parameters that belong to single tasks, such as towers: tensors whose every entry only one task's loss
        depends on. All others are shared."""

    @property
    def last_shared_names(self) -> tuple[str, ...]:
        """Parameters of the last shared layer."""

    @property
    def num_tasks(self) -> int:
        """K."""

    def __call__(self) -> Losses:
        """At the model's own parameters; `backward()` from it leaves rank-averaged gradients."""

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Losses:
        """Of this rank at other parameters; nothing is averaged over ranks."""

    def of_task(self, task: int, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        """The loss of one task of this rank at other parameters, a scalar; what other tasks need is not computed."""

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's mean over the ranks, differentiable; the same tensors on one rank."""


@dataclass(frozen=True)
class BalancedStep:
    """What a backward pass saw, detached."""

    losses: Losses
    weights_K: Tensor


class Balancer(ABC):
    """Turns K task losses into one gradient. What it draws comes from a generator of its own, alike on every rank."""

    inner_fraction: float | None = None
    """Share of the batch that is its `inner` part; None when every part is the whole batch."""

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """What it learns itself, by the trial's optimiser, without weight decay; `backward` fills their `.grad` too."""
        return ()

    @abstractmethod
    def backward(self, losses: TaskLosses) -> BalancedStep:
        """Fills `.grad` of every parameter, averaged over ranks and contiguous; does not step.

        The caller has set the old gradients to None.
        """

    def begin_epoch(self, epoch: int) -> None:  # noqa: B027 - most have nothing to do
        """Before the first step of an epoch, counted from 1."""

    def to(self, device: torch.device) -> None:  # noqa: B027 - most keep nothing
        """Moves what it keeps to where the losses are."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed trial needs, also in the middle of an epoch; plain types and tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        assert not state, f"{type(self).__name__} keeps no state, but was given {sorted(state)}"

"""Task losses of a batch: masked, and scaled so that the mean over ranks is the loss of the whole batch.

Binary tasks: cross-entropy with logits. Regression: squared error of the standardised label.

Axes: B batch, K tasks, O outputs (one a task).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsearch.balancing import Part
from mtlsearch.config import Task
from mtlsearch.train.distributed import World
from mtlsearch.train.tensors import Batch


class LossTable:
    """The element-wise loss of every task; tasks of one kind are computed together."""

    def __init__(self, tasks: Sequence[Task], device: torch.device) -> None:
        self.is_binary_K = torch.tensor([task.kind == "binary" for task in tasks], device=device)
        self._kinds = {task.kind for task in tasks}

    def __call__(self, outputs_BO: Tensor, labels_BK: Tensor) -> Tensor:
        """loss_BK of each row and task, missing labels included (their label is 0)."""
        if self._kinds == {"binary"}:
            return F.binary_cross_entropy_with_logits(outputs_BO, labels_BK, reduction="none")
        if self._kinds == {"regression"}:
            return (outputs_BO - labels_BK).square()
        return torch.where(
            self.is_binary_K,
            F.binary_cross_entropy_with_logits(outputs_BO, labels_BK, reduction="none"),
            (outputs_BO - labels_BK).square(),
        )


class BatchLosses:
    """One batch's task losses as functions of the parameters: what a balancer sees (`balancing.TaskLosses`).

    Args:
        model: the model as DDP wraps it, or the bare one on one rank.
        inner_fraction: share of the whole batch's rows, over all ranks, that is its `inner` part.
        amp: whether the forward pass runs under bfloat16 autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Batch,
        table: LossTable,
        world: World,
        *,
        inner_fraction: float | None = None,
        amp: bool = False,
    ) -> None:
        self._model, self._batch, self._table, self._world, self._amp = model, batch, table, world, amp
        self._bare: nn.Module = getattr(model, "module", model)
        self._present_BK: dict[Part, Tensor] = dict.fromkeys(("all", "inner", "outer"), batch.present_BK)
        if inner_fraction is not None:
            inner_B1 = self._inner_rows(inner_fraction)
            self._present_BK |= {"inner": batch.present_BK * inner_B1, "outer": batch.present_BK * ~inner_B1}
        self._count_K: dict[Part, Tensor] = {}

    @cached_property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The model's own, by name."""
        return dict(self._bare.named_parameters())

    @property
    def num_tasks(self) -> int:
        """K."""
        return self._batch.labels_BK.shape[1]

    def __call__(self) -> Tensor:
        """loss_K through the wrapped model."""
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._amp):
            outputs_BO = self._model(self._batch.inputs)
        return self._reduce(outputs_BO, "all")

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        """loss_K of this rank at other parameters."""
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._amp):
            outputs_BO = torch.func.functional_call(self._bare, dict(parameters), (self._batch.inputs,))
        return self._reduce(outputs_BO, part)

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's mean over the ranks."""
        return self._world.mean(tensors)

    def _reduce(self, outputs_BO: Tensor, part: Part) -> Tensor:
        loss_BK = self._table(outputs_BO.float(), self._batch.labels_BK)
        return (loss_BK * self._present_BK[part]).sum(0) / self._labels(part)

    def _labels(self, part: Part) -> Tensor:
        """Labels of each task in the part, over all ranks, per rank; 1 where there are none."""
        if part not in self._count_K:
            count_K = self._world.sum(self._present_BK[part].sum(0)) / self._world.size
            self._count_K[part] = torch.where(count_K > 0, count_K, torch.ones_like(count_K))
        return self._count_K[part]

    def _inner_rows(self, fraction: float) -> Tensor:
        """Which of this rank's rows lie in the first `fraction` of the whole batch, as a column."""
        local = torch.arange(len(self._batch.labels_BK), device=self._world.device)
        total = self._world.sum(torch.tensor(float(len(local)), device=self._world.device))
        return (local * self._world.size + self._world.rank < (fraction * total).floor())[:, None]

"""Task losses of a batch: masked, weighted, and scaled so that the mean over ranks is the loss of the whole batch.

Binary and multilabel: cross-entropy with logits. Multiclass: cross-entropy of its slice of the outputs.
Regression: squared error of the standardised label.

Axes: P predictions, B rows (sequences) of the batch, K tasks, L label columns, O outputs, C classes, G tasks that
have C classes each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtlsearch.balancing import Losses, Part
from mtlsearch.config import Task
from mtlsearch.models import Inputs
from mtlsearch.train.batch import Batch
from mtlsearch.train.chunks import twice_differentiable
from mtlsearch.train.distributed import Seen, Trainee, World


class LossTable:
    """The element-wise loss of every label; labels of one kind are computed together."""

    def __init__(self, tasks: Sequence[Task], device: torch.device) -> None:
        self.num_tasks = len(tasks)
        self._tasks, self._device, self._alone = list(tasks), device, dict[int, LossTable]()
        owner_L = [index for index, task in enumerate(tasks) for _ in range(task.num_labels)]
        one_each = len(owner_L) == self.num_tasks
        self._owner_LK = None if one_each else F.one_hot(torch.tensor(owner_L), self.num_tasks).float().to(device)
        self._kinds = {task.kind for task in tasks}
        self._has_classes = "multiclass" in self._kinds
        plain = [task for task in tasks if task.kind != "multiclass"]
        self._is_logit_L = torch.tensor([t.kind != "regression" for t in plain for _ in range(t.num_labels)]).to(device)
        self._columns = _Columns(tasks, device)

    def __call__(self, outputs_PO: Tensor, labels_PL: Tensor) -> Tensor:
        """loss_PL.

        Args:
            labels_PL: as a batch has them, but some finite number that the kind allows, such as 0, where one is
                missing. Its loss means nothing: the caller leaves it out.
        """
        if not self._has_classes:
            return self._plain(outputs_PO, labels_PL)
        columns = self._columns
        losses = [self._plain(outputs_PO[:, columns.plain_outputs], labels_PL[:, columns.plain_labels])]
        for outputs_GC, labels_G in columns.classes:
            log_odds_PGC = outputs_PO[:, outputs_GC].log_softmax(2)
            index_PG1 = labels_PL[:, labels_G].long().unsqueeze(2)
            losses.append(-log_odds_PGC.gather(2, index_PG1).squeeze(2))
        return torch.cat(losses, dim=1)[:, columns.back_L]

    def columns_of(self, task: int) -> slice:
        """Where the task's labels are."""
        first = sum(each.num_labels for each in self._tasks[:task])
        return slice(first, first + self._tasks[task].num_labels)

    def of_task(self, task: int) -> LossTable:
        """The losses of one task's labels alone."""
        if task not in self._alone:
            self._alone[task] = LossTable([self._tasks[task]], self._device)
        return self._alone[task]

    def by_task(self, sum_L: Tensor) -> Tensor:
        """Sums of label columns to sums of tasks."""
        return sum_L if self._owner_LK is None else sum_L @ self._owner_LK

    def _plain(self, outputs_PL: Tensor, labels_PL: Tensor) -> Tensor:
        """Of labels with one output each."""
        if "regression" not in self._kinds:
            return F.binary_cross_entropy_with_logits(outputs_PL, labels_PL, reduction="none")
        squared_PL = (outputs_PL - labels_PL).square()
        if self._kinds <= {"regression", "multiclass"}:
            return squared_PL
        entropy_PL = F.binary_cross_entropy_with_logits(outputs_PL, labels_PL, reduction="none")
        return torch.where(self._is_logit_L, entropy_PL, squared_PL)


class _Columns:
    """Where each kind's outputs and labels are."""

    def __init__(self, tasks: Sequence[Task], device: torch.device) -> None:
        plain_outputs: list[int] = []
        plain_labels: list[int] = []
        classes: dict[int, list[tuple[int, int]]] = {}
        output = label = 0
        for task in tasks:
            if task.kind == "multiclass":
                classes.setdefault(task.num_outputs, []).append((output, label))
            else:
                plain_outputs += range(output, output + task.num_outputs)
                plain_labels += range(label, label + task.num_labels)
            output, label = output + task.num_outputs, label + task.num_labels
        self.plain_outputs = torch.tensor(plain_outputs, dtype=torch.int64, device=device)
        self.plain_labels = torch.tensor(plain_labels, dtype=torch.int64, device=device)
        self.classes = [
            (
                torch.tensor([list(range(first, first + count)) for first, _ in places], device=device),
                torch.tensor([place for _, place in places], device=device),
            )
            for count, places in classes.items()
        ]
        """Of tasks with equally many classes: outputs [G, C] and labels [G]."""
        order = torch.tensor(plain_labels + [place for places in classes.values() for _, place in places])
        self.back_L = order.argsort().to(device)
        """Undoes the order in which the kinds are computed."""


class _Rows(NamedTuple):
    """What a part of a batch is computed on."""

    inputs: Inputs
    labels_PL: Tensor
    weight_PL: Tensor
    inside_P: Tensor | None
    """bool: which predictions count; None where all do."""

    def only(self, inside_P: Tensor, batch: Batch) -> _Rows:
        """Of a table those rows alone; of sequences all, the others of which weigh nothing."""
        index_P = inside_P.nonzero().squeeze(1)
        if batch.row_P is not None or len(index_P) == 0:
            return _Rows(self.inputs, self.labels_PL, self.weight_PL * inside_P[:, None], inside_P)
        inputs = Inputs(self.inputs.numeric_BF[index_P], self.inputs.categorical_BC[index_P])
        return _Rows(inputs, self.labels_PL[index_P], self.weight_PL[index_P], None)


class _Totals(NamedTuple):
    """Of a part of a batch."""

    weight_K: Tensor
    """1 where there are no labels."""
    present_K: Tensor
    """Whether there are any."""


class BatchLosses:
    """One batch's task losses as functions of the parameters: what a balancer sees (`balancing.TaskLosses`).

    Args:
        model: a `Trainee` as `World.wrap` gives it.
        inner_fraction: share of the whole batch's rows, over all ranks, that is its `inner` part. A row is on one
            side with all its predictions. Either side has a row; a batch of one row is both.
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
        self._trainee = cast("Trainee", getattr(model, "module", model))  # DDP keeps it there
        weight_PL = counting(batch)
        whole = _Rows(batch.inputs, batch.labels_PL.nan_to_num(), weight_PL, None)
        self._rows: dict[Part, _Rows] = dict.fromkeys(("all", "inner", "outer"), whole)
        if inner_fraction is not None:
            inner_P, outer_P = self._sides(inner_fraction)
            self._rows |= {"inner": whole.only(inner_P, batch), "outer": whole.only(outer_P, batch)}
        self._total: dict[Part, _Totals] = {}

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The model's own, by name."""
        return self._trainee.by_name

    @property
    def own_names(self) -> frozenset[str]:
        """Of the parameters that belong to single tasks."""
        return self._trainee.own_names

    @property
    def last_shared_names(self) -> tuple[str, ...]:
        """Of the last shared layer's parameters."""
        return self._trainee.last_shared_names

    @property
    def num_tasks(self) -> int:
        """K."""
        return self._table.num_tasks

    def __call__(self) -> Losses:
        """Through the wrapped model."""
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._amp):
            seen = self._model(self._batch.inputs)
        return self._reduce(seen, "all")

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Losses:
        """Of this rank at other parameters; its gradient has a gradient."""
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._amp), twice_differentiable():
            seen = torch.func.functional_call(self._trainee, dict(parameters), (self._rows[part].inputs,))
        return self._reduce(seen, part)

    def of_task(self, task: int, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        """The loss of one task of this rank at other parameters, a scalar."""
        rows = self._rows[part]
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._amp), twice_differentiable():
            outputs_PO = torch.func.functional_call(self._trainee, dict(parameters), (rows.inputs, task))
        table, labels = self._table.of_task(task), self._table.columns_of(task)
        loss_PL = table(outputs_PO.float(), rows.labels_PL[:, labels])
        return (loss_PL * rows.weight_PL[:, labels]).sum() / self._totals(part).weight_K[task]

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's mean over the ranks."""
        return self._world.mean(tensors)

    def _reduce(self, seen: Seen, part: Part) -> Losses:
        """Σ w·l of this rank over Σ w of all, per rank; penalties alike, each prediction counting 1."""
        rows = self._rows[part]
        loss_PL = self._table(seen.outputs_PO.float(), rows.labels_PL)
        loss_K = self._table.by_task((loss_PL * rows.weight_PL).sum(0)) / self._totals(part).weight_K
        penalties = {name: self._mean(value.float(), part) for name, value in seen.penalties.items()}
        return Losses(loss_K, penalties, self._totals(part).present_K, seen.parting_KPH)

    def _mean(self, penalty: Tensor, part: Part) -> Tensor:
        """A scalar as it is; of penalty_P this rank's share of the mean over the part's predictions."""
        if penalty.dim() == 0:
            return penalty
        inside_P = self._rows[part].inside_P
        if inside_P is None:
            inside_P = torch.ones_like(penalty, dtype=torch.bool)
        count = self._world.sum(inside_P.sum().float()).clamp(min=1) / self._world.size
        return (penalty * inside_P).sum() / count

    def _totals(self, part: Part) -> _Totals:
        """What the task's labels in the part weigh, over all ranks, per rank."""
        if part not in self._total:
            weight_K = self._table.by_task(self._rows[part].weight_PL.sum(0))
            total_K = self._world.sum(weight_K) / self._world.size
            present_K = total_K > 0
            self._total[part] = _Totals(torch.where(present_K, total_K, torch.ones_like(total_K)), present_K)
        return self._total[part]

    def _sides(self, fraction: float) -> tuple[Tensor, Tensor]:
        """Which of this rank's predictions are of the first `fraction` of the whole batch's rows, and which are of the
        others: bool [P] each."""
        world, row_P = self._world, self._batch.row_P
        position_B = torch.arange(self._batch.num_rows, device=world.device) * world.size + world.rank
        total = world.sum(torch.tensor(float(len(position_B)), device=world.device))
        count = (fraction * total).floor().clamp(min=1).minimum((total - 1).clamp(min=1))
        inner_B = position_B < count
        outer_B = ~inner_B | (total == 1)
        return (inner_B, outer_B) if row_P is None else (inner_B[row_P], outer_B[row_P])


def counting(batch: Batch) -> Tensor:
    """weight_PL: how much each label counts; 0 where it is missing."""
    present_PL = ~batch.labels_PL.isnan()
    if batch.weight_PL is None:
        return present_PL.float()
    return torch.where(present_PL, batch.weight_PL, torch.zeros_like(batch.weight_PL))

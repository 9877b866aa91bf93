"""What some tasks want of a block: their labels, scaled, their weights, and the steps at which they are predicted.

Axes: B rows of a batch, L label columns of the chosen tasks, O their outputs; W tasks of a block with weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from mtlsearch.config import Task
from mtlsearch.data import DataSchema
from mtlsearch.train.block import Block
from mtlsearch.train.order import Rows

LAST = 1 << 62
"""A step beyond the end of every sequence: its last one."""


class LabelColumn(NamedTuple):
    """One of the L columns."""

    task: Task
    source: int
    """Its column in the block's labels, of rows or of steps."""
    weight: int | None
    """Its task's column in the block's weights."""
    mean: float
    std: float
    """What scales it: 0 and 1 unless the task is a regression."""
    offset: float
    """What the store's labels are less than the original ones."""


class LabelClass(NamedTuple):
    """A class of a label: 0 or 1, or one of a multiclass task's."""

    task: Task
    rate: float
    """Share of the rows with the label that have the class."""
    has_N: Tensor
    """bool: which rows of the block have it; of a label a step, at any of their steps."""


@dataclass(frozen=True)
class Targets:
    """The chosen tasks, and where a block has what they need."""

    tasks: tuple[Task, ...]
    columns: tuple[LabelColumn, ...]
    device: torch.device

    @classmethod
    def of(cls, schema: DataSchema, tasks: Sequence[Task], device: torch.device) -> Targets:
        """Some of the schema's tasks, in its order."""
        chosen, columns, taken = {task.name for task in tasks}, [], {False: 0, True: 0}
        for task, mean, std in zip(schema.tasks, schema.label_mean, schema.label_std, strict=True):
            weight = schema.weighted.index(task.name) if task.name in schema.weighted else None
            if task.name in chosen:
                sources = range(taken[task.per_step], taken[task.per_step] + task.num_labels)
                offset = schema.label_offset(task.name)
                columns += [LabelColumn(task, source, weight, mean, std, offset) for source in sources]
            taken[task.per_step] += task.num_labels
        return cls(tuple(tasks), tuple(columns), device)

    @property
    def per_step(self) -> bool:
        """Whether some task has a label at every step."""
        return any(task.per_step for task in self.tasks)

    @cached_property
    def columns_at(self) -> dict[int, Tensor]:
        """Step at which sequences' one labels are predicted → the label columns that are predicted there."""
        found: dict[int, list[int]] = {}
        for index, (task, *_) in enumerate(self.columns):
            if not task.per_step:
                found.setdefault(LAST if task.at_step is None else task.at_step, []).append(index)
        return {at: torch.tensor(columns, device=self.device) for at, columns in found.items()}

    @property
    def most_steps(self) -> int:
        """Steps of a sequence beyond which nothing is predicted."""
        return LAST if self.per_step else max(self.columns_at) + 1

    @cached_property
    def mean(self) -> Tensor:
        """float32 [L]: what is taken off stored labels."""
        return torch.tensor([column.mean - column.offset for column in self.columns], device=self.device)

    @cached_property
    def std(self) -> Tensor:
        """float32 [L]: what labels are then divided by."""
        return torch.tensor([column.std for column in self.columns], device=self.device)

    def labels(self, labels_BX: Tensor, per_step: bool) -> Tensor:
        """labels_BL, scaled, of a block's labels of rows or of steps; NaN in the columns of the other kind."""
        as_they_are = self._wanted[per_step] == list(range(labels_BX.shape[1]))
        found_BL = labels_BX if as_they_are else _pick(labels_BX, self._sources[per_step], torch.nan)
        return found_BL if self._unscaled else (found_BL - self.mean) / self.std

    def weights(self, block: Block, rows: Rows) -> Tensor | None:
        """weight_BL, 1 for a task without weights; None when no chosen task has any."""
        if all(column.weight is None for column in self.columns):
            return None
        return _pick(rows_of(block.weights_NW, rows), self._weight_columns, 1.0)

    def unscaled(self, outputs_PO: Tensor, labels_PL: Tensor) -> tuple[Tensor, Tensor]:
        """Both in float64, regressions in original units."""
        scales = [(column.task, column.mean, column.std) for column in self.columns]
        wide = [(mean, std) for task, mean, std in dict.fromkeys(scales) for _ in range(task.num_outputs)]
        mean_O, std_O = torch.tensor(wide, dtype=torch.float64, device=outputs_PO.device).unbind(1)
        offset_L = torch.tensor([column.offset for column in self.columns], dtype=torch.float64, device=self.device)
        labels = labels_PL.double() * self.std.double() + self.mean.double() + offset_L
        return outputs_PO.double() * std_O + mean_O, labels

    def labelled(self, block: Block, task: Task) -> Tensor:
        """bool_N: which rows of a block have a label of a task that training reaches."""
        return self._rows_where(block, task, lambda labels_XL: ~labels_XL.isnan().all(1))

    def classes(self, block: Block) -> Iterator[LabelClass]:
        """Every class that some row of a block has, of every label; 1 before 0, so that of two alike 1 comes first."""
        for task in self.tasks:
            if task.kind != "regression":
                for label in range(task.num_labels):
                    yield from self._classes(block, task, label)

    def _classes(self, block: Block, task: Task, label: int) -> Iterator[LabelClass]:
        """Those of a task's label."""
        labelled = int(self._rows_where(block, task, lambda labels_XL: ~labels_XL[:, label].isnan()).sum())
        for value in reversed(range(max(2, task.num_outputs // task.num_labels))):
            has_N = self._rows_where(block, task, partial(_has, label=label, value=value))
            if count := int(has_N.sum()):
                yield LabelClass(task, count / labelled, has_N)

    def _rows_where(self, block: Block, task: Task, wanted: Callable[[Tensor], Tensor]) -> Tensor:
        """bool_N: rows of which a label of the task is wanted; `wanted` maps the task's [X, L] labels to bool [X]."""
        sources = [column.source for column in self.columns if column.task == task]
        steps, columns = block.steps, slice(sources[0], sources[-1] + 1)
        if steps is None:
            return wanted(block.labels_NL[:, columns])
        if not task.per_step:
            reached_N = steps.offset_N.diff() > (0 if task.at_step is None else task.at_step)
            return wanted(block.labels_NL[:, columns].masked_fill(~reached_N[:, None], torch.nan))
        found_M = wanted(steps.labels_MJ[:, columns])
        before = torch.cat([found_M.new_zeros(1, dtype=torch.int64), found_M.cumsum(0)])
        return before[steps.offset_N].diff() > 0

    @cached_property
    def _unscaled(self) -> bool:
        return all((column.mean, column.std) == (0.0, 1.0) for column in self.columns)

    @cached_property
    def _wanted(self) -> dict[bool, list[int]]:
        """Per kind of label: the source of each column, -1 where it is of the other kind."""
        return {kind: [c.source if c.task.per_step == kind else -1 for c in self.columns] for kind in (False, True)}

    @cached_property
    def _sources(self) -> dict[bool, Tensor]:
        return {kind: torch.tensor(columns, device=self.device) for kind, columns in self._wanted.items()}

    @cached_property
    def _weight_columns(self) -> Tensor:
        columns = [-1 if column.weight is None else column.weight for column in self.columns]
        return torch.tensor(columns, device=self.device)


def rows_of(tensor: Tensor, rows: Rows) -> Tensor:
    """The rows with these indices; of a slice, a view."""
    return tensor[rows] if isinstance(rows, slice) else tensor.index_select(0, rows)


def _has(labels_XL: Tensor, label: int, value: int) -> Tensor:
    """bool_X: whether the label has the value."""
    return labels_XL[:, label] == value


def _pick(values_BX: Tensor, source_L: Tensor, otherwise: float) -> Tensor:
    """The columns with these indices, and a constant one for -1."""
    constant_B1 = values_BX.new_full((len(values_BX), 1), otherwise)
    return torch.cat([values_BX, constant_B1], dim=1)[:, source_L]

"""Batches that serve one task: rows with its labels, shuffled, each once before one comes again, in each epoch anew.

Labels of other tasks are left out, also where a row has them. So tasks may live in different rows or files.

Axes: K tasks, L label columns, N rows of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import nan
from typing import Any

import torch
from torch import Tensor

from mtlsearch.balancing import Losses
from mtlsearch.data.task_sampling import AutoSem, DoReMi, Schedule
from mtlsearch.errors import TrialFailed
from mtlsearch.records import derive_seed
from mtlsearch.train.batch import Batch
from mtlsearch.train.batching import Sampling, WholeBlock, dealt, whole_blocks
from mtlsearch.train.block import Block
from mtlsearch.train.distributed import World
from mtlsearch.train.order import passes
from mtlsearch.train.take import take
from mtlsearch.train.tensors import Batches, TensorData


class OneTask(Sampling):
    """The task that a schedule says; as many batches as `Joint`.

    A task with fewer labelled rows than ranks in a block is not served there.
    """

    def __init__(self, schedule: Schedule, data: TensorData, world: World) -> None:
        super().__init__(data, world)
        self._schedule = schedule

    def epoch(
        self, epoch: int, generator: torch.Generator, batch_size: int, replication: float = 0.0, skip: int = 0
    ) -> Batches:
        """Raises TrialFailed when no task can be served at all."""
        step, world, targets = 0, self._world, self._data.targets
        self._schedule.begin_epoch(epoch)
        for piece in whole_blocks(self._data, world, generator, batch_size):
            index_K = self._index(piece.block)
            able = [len(index_N) >= world.num_parts for index_N in index_K]
            orders = self._orders(piece, index_K, batch_size)
            for _ in range(piece.num_steps if self._schedule.serves(able) else 0):
                task = self._schedule.task(step, able)
                rows_B = next(orders[task])
                if step >= skip:
                    yield self._alone(take(targets, piece.block, dealt(rows_B, world), replication), task)
                step += 1
        if step == 0:
            ranks = f"ranks ({world.num_parts})"
            raise TrialFailed(f"no task has a label in as many training rows as there are {ranks}")

    def _orders(self, piece: WholeBlock, index_K: Sequence[Tensor], batch_size: int) -> list[Iterator[Tensor]]:
        draws = [torch.Generator().manual_seed(derive_seed(piece.seed, task)) for task in range(len(index_K))]
        both, size = zip(index_K, draws, strict=True), self._world.num_parts
        return [passes(index_N, piece.length_N, batch_size, size, draw) for index_N, draw in both]

    def _index(self, block: Block) -> list[Tensor]:
        """Per task: its labelled rows, int32 on the CPU; of a whole split made once."""
        return self._of_whole if self._data.feed.whole is not None else self._labelled(block)

    @cached_property
    def _of_whole(self) -> list[Tensor]:
        assert self._data.feed.whole is not None
        return self._labelled(self._data.feed.whole)

    def _labelled(self, block: Block) -> list[Tensor]:
        labelled = (self._data.targets.labelled(block, task) for task in self._data.tasks)
        return [labelled_N.nonzero().squeeze(1).int().cpu() for labelled_N in labelled]

    def _alone(self, batch: Batch, task: int) -> Batch:
        """With the labels of one task."""
        return batch._replace(labels_PL=batch.labels_PL.masked_fill(self._others[task], nan))

    @cached_property
    def _others(self) -> Tensor:
        """bool [K, L]: which label columns are another task's."""
        columns = self._data.targets.columns
        wrong = [[column.task != task for column in columns] for task in self._data.tasks]
        return torch.tensor(wrong, device=self._data.targets.device)

    def metrics(self) -> dict[str, dict[str, float]]:
        """The schedule's."""
        return {"share": self._by_name(self._schedule.shares), "weight": self._by_name(self._schedule.weights)}

    def _by_name(self, value_K: Sequence[float]) -> dict[str, float]:
        values = enumerate(zip(self._data.tasks, value_K, strict=True))
        return {task.name: value for at, (task, value) in values if at not in self._schedule.dropped}

    def state_dict(self) -> dict[str, Any]:
        """The schedule's."""
        return self._schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        self._schedule.load_state_dict(state)


class ByReward(OneTask):
    """AutoSeM: rewarded when the objective is better than after the epoch before."""

    def __init__(self, schedule: AutoSem, data: TensorData, world: World) -> None:
        super().__init__(schedule, data, world)
        self._bandit = schedule
        self._before: float | None = None

    def after_epoch(self, objective: float | None) -> None:
        """The rank that knows tells the others. The first epoch has nothing to be compared with."""
        compared = objective is not None and self._before is not None
        improved = compared and objective > self._before  # type: ignore[operator]
        told = self._world.sum(torch.tensor([compared, improved], dtype=torch.float32, device=self._world.device))
        known, better = told.tolist()
        if known:
            self._bandit.reward(bool(better))
        self._before = objective

    def state_dict(self) -> dict[str, Any]:
        """With the last objective."""
        return super().state_dict() | {"before": self._before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        super().load_state_dict(state)
        self._before = state["before"]


class ByExcessLoss(OneTask):
    """DoReMi: losses are summed where they are, and looked at once in `every` steps."""

    def __init__(self, schedule: DoReMi, every: int, data: TensorData, world: World) -> None:
        super().__init__(schedule, data, world)
        self._weights, self._every = schedule, every
        self._sum_2K = torch.zeros(2, len(data.tasks), device=world.device)
        self._steps = 0

    def observe(self, losses: Losses) -> None:
        """A loss is the mean over ranks, so all of them keep the same sums."""
        loss_K = self._world.sum(losses.loss_K.detach().float().clone()) / self._world.size
        self._sum_2K += torch.stack([torch.where(losses.present_K, loss_K, 0.0), losses.present_K.float()])
        self._steps += 1
        if self._steps == self._every:
            sums, counts = self._sum_2K.tolist()
            self._weights.observe([total / count if count else nan for total, count in zip(sums, counts, strict=True)])
            self._sum_2K, self._steps = torch.zeros_like(self._sum_2K), 0

    def metrics(self) -> dict[str, dict[str, float]]:
        """With the weights' mean over all steps of the trial, the method's result."""
        return super().metrics() | {"mean_weight": self._by_name(self._weights.mean_weights)}

    def state_dict(self) -> dict[str, Any]:
        """With the sums since the last update."""
        return super().state_dict() | {"sums": self._sum_2K.clone(), "since": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()`."""
        super().load_state_dict(state)
        self._sum_2K, self._steps = state["sums"].to(self._world.device).clone(), state["since"]

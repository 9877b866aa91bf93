"""A store's splits as tensors on a device, and batches as index selections of them.

Axes: N rows, B batch, F numeric columns, C categorical columns, K tasks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsearch.config import Task
from mtlsearch.data import DataSchema, Split, Store
from mtlsearch.data.columns import SplitName
from mtlsearch.models import Inputs, InputSpec
from mtlsearch.train.distributed import World

Floats = NDArray[np.float32]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Batch:
    """Some rows. Labels are scaled; where `present_BK` is 0 the label is missing and `labels_BK` is 0."""

    inputs: Inputs
    labels_BK: Tensor
    present_BK: Tensor


@dataclass(frozen=True)
class TensorSplit:
    """One split on a device. On a CPU the inputs are the store's own memory-mapped pages."""

    inputs: Inputs
    labels_NK: Tensor
    present_NK: Tensor

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.labels_NK)

    def take(self, rows_B: Tensor) -> Batch:
        """The rows with these indices."""
        inputs = Inputs(self.inputs.numeric_BF[rows_B], self.inputs.categorical_BC[rows_B])
        return Batch(inputs, self.labels_NK[rows_B], self.present_NK[rows_B])

    def batches(self, order_N: Tensor, size: int, world: World) -> Iterator[Batch]:
        """This rank's part of each batch of `size` rows over all ranks: every `world.size`-th row of it.

        A last batch with fewer rows than ranks is left out: a rank without rows would have no part in it.
        """
        for start in range(0, len(order_N), size):
            rows = order_N[start : start + size]
            if len(rows) >= world.size:
                yield self.take(rows[world.rank :: world.size])


@dataclass(frozen=True)
class TensorData:
    """A data set for one trial: its tasks' labels, scaled, and the numbers that undo the scaling."""

    schema: DataSchema
    tasks: tuple[Task, ...]
    mean_K: Tensor
    std_K: Tensor
    splits: Mapping[SplitName, TensorSplit]

    @classmethod
    def load(cls, store: Store, device: torch.device) -> TensorData:
        """The store's splits on the device, with the labels of all its tasks."""
        schema = store.schema
        mean_K = np.array(schema.label_mean, np.float32)
        std_K = np.array(schema.label_std, np.float32)
        splits = {name: _on_device(store.split(name), mean_K, std_K, device) for name in SPLITS}
        return cls(schema, schema.tasks, torch.from_numpy(mean_K), torch.from_numpy(std_K), splits)

    def only(self, names: Sequence[str]) -> TensorData:
        """The same rows with the labels of these tasks; the inputs are not copied."""
        if tuple(names) == tuple(task.name for task in self.tasks):
            return self
        columns = [index for index, task in enumerate(self.tasks) if task.name in names]
        splits = {
            name: TensorSplit(split.inputs, split.labels_NK[:, columns], split.present_NK[:, columns])
            for name, split in self.splits.items()
        }
        chosen = tuple(self.tasks[column] for column in columns)
        return TensorData(self.schema, chosen, self.mean_K[columns], self.std_K[columns], splits)

    @property
    def input_spec(self) -> InputSpec:
        """What a model of this data reads."""
        return InputSpec(self.schema.num_numeric, self.schema.cardinalities)

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of each task."""
        return tuple(task.num_outputs for task in self.tasks)


def _on_device(split: Split, mean_K: Floats, std_K: Floats, device: torch.device) -> TensorSplit:
    present_NK = ~np.isnan(split.labels_NK)
    scaled_NK = np.where(present_NK, (split.labels_NK - mean_K) / std_K, np.float32(0))
    with warnings.catch_warnings():  # the pages are read-only, and nothing here writes to an input
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        numeric, categorical = torch.from_numpy(split.numeric_NF), torch.from_numpy(split.categorical_NC)
    return TensorSplit(
        Inputs(numeric.to(device), categorical.to(device)),
        torch.from_numpy(scaled_NK).to(device),
        torch.from_numpy(present_NK.astype(np.float32)).to(device),
    )

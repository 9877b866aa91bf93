"""A store as batches on a device: a trial's view of its data, whatever size that has."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from mtlsearch.config import Task
from mtlsearch.data import DataSchema, Split, Store
from mtlsearch.data.columns import SPLITS, SplitName
from mtlsearch.data.extents import split_extents
from mtlsearch.data.feed import WINDOW_BYTES
from mtlsearch.models import InputSpec
from mtlsearch.train.batch import Batch
from mtlsearch.train.block import block_of
from mtlsearch.train.distributed import World
from mtlsearch.train.feed import Feed, MemoryFeed, Wanted, choose
from mtlsearch.train.stream import StreamFeed
from mtlsearch.train.take import take
from mtlsearch.train.targets import Targets

Batches = Generator[Batch, None, None]


@dataclass(frozen=True)
class TensorData:
    """A data set for one trial: its rows, wherever they are, and its tasks' labels, scaled as batches are made."""

    schema: DataSchema
    feed: Feed
    targets: Targets

    @classmethod
    def load(
        cls,
        store: Store,
        device: torch.device,
        feed: Wanted = "auto",
        *,
        gpu_share: float = 1.0,
        window_bytes: int = WINDOW_BYTES,
    ) -> TensorData:
        """The store with the labels of all its tasks.

        Args:
            feed: `resources.feed`; `auto` is in memory where that fits.
            gpu_share: how much of a GPU is this process's; half of that may be data.
            window_bytes: rows that are shuffled at a time when they are streamed.
        Raises:
            ConfigError: a file of the store is missing or cut off.
        """
        choice = choose(store, device, feed, gpu_share)
        if choice.kind == "memory":
            splits = {name: store.split(name) for name in SPLITS}
            return cls.of(store.schema, splits, device, choice.sentence)
        files = {name: split_extents(store.folder, name) for name in SPLITS}
        stream = StreamFeed(files, choice.sentence, window_bytes)
        return cls(store.schema, stream, Targets.of(store.schema, store.schema.tasks, device))

    @classmethod
    def of(
        cls, schema: DataSchema, splits: Mapping[SplitName, Split], device: torch.device, description: str = "in memory"
    ) -> TensorData:
        """Whole splits, on a CPU without a copy."""
        blocks = {name: block_of(split).to(device) for name, split in splits.items()}
        return cls(schema, MemoryFeed(blocks, description), Targets.of(schema, schema.tasks, device))

    def only(self, names: Sequence[str]) -> TensorData:
        """The same rows with the labels of these tasks; nothing is copied."""
        chosen = [task for task in self.tasks if task.name in names]
        return replace(self, targets=Targets.of(self.schema, chosen, self.targets.device))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The chosen ones, in the schema's order."""
        return self.targets.tasks

    @property
    def input_spec(self) -> InputSpec:
        """What a model of this data reads."""
        return input_spec(self.schema)

    @property
    def widths(self) -> tuple[int, ...]:
        """Outputs of each task."""
        return tuple(task.num_outputs for task in self.tasks)

    @property
    def description(self) -> str:
        """How the rows are held: `in memory, 48 MB mapped`."""
        return self.feed.description

    def num_rows(self, split: SplitName) -> int:
        """Rows, or sequences."""
        return self.feed.num_rows(split)

    def epoch(
        self, generator: torch.Generator, batch_size: int, world: World, replication: float = 0.0, skip: int = 0
    ) -> Batches:
        """This rank's part of an epoch's batches; close the iterator when you leave it before its end.

        Every rank has as many batches as any other, and nothing but the generator's state decides their rows.

        Args:
            batch_size: rows, or sequences, over all ranks; long sequences make smaller batches (`order.MOST_STEPS`).
            replication: `MultiTaskModel.target_replication`.
            skip: batches at the start that are left out: they have been trained on.
        """
        for step, (block, rows) in enumerate(self.feed.epoch(generator, batch_size, world, self.targets.most_steps)):
            if step >= skip:
                yield take(self.targets, block, rows, replication)

    def ordered(self, split: SplitName, batch_size: int, world: World) -> Batches:
        """This rank's share of a split in batches of at most so many rows, every row once; maybe no batch at all."""
        for block, rows in self.feed.ordered(split, batch_size, world, self.targets.most_steps):
            yield take(self.targets, block, rows)


def input_spec(schema: DataSchema) -> InputSpec:
    """What a model of data with this schema reads."""
    return InputSpec(
        schema.num_numeric,
        schema.cardinalities,
        schema.num_step_numeric,
        schema.step_cardinalities,
        categorical_names=schema.categorical_names,
        step_channels=schema.step_channels,
    )

"""What a store holds: tasks, columns with their encoders, counts. Kept as schema.json, and with a model."""

from __future__ import annotations

from collections.abc import Sequence

from mtlsearch.config.base import Config
from mtlsearch.config.encoding import FIRST
from mtlsearch.config.task import Task
from mtlsearch.data.columns import SplitName
from mtlsearch.data.encoders import BinEncoder, CategoricalEncoder, NumericEncoder
from mtlsearch.data.mimic3_channels import CHANNEL_OF
from mtlsearch.data.sequences.binning import measured_variables


class SplitCounts(Config):
    """How much of what one split holds."""

    name: SplitName
    num_rows: int
    num_steps: int
    """Steps of all sequences; 0 where rows are no sequences."""
    missing: tuple[int, ...]
    """Per task: rows (or steps) without any label."""
    frequencies: tuple[tuple[int, ...], ...]
    """Per task: how often each class or label is there; of a binary task its positives alone; of a regression none."""
    alike: tuple[str | None, ...] = ()
    """Per task: what its labels are where all are alike, or none is there; else None."""


class DataSchema(Config):
    """Everything about a data set but its rows."""

    source: str
    data_digest: str
    """Names the source's files (by content), its options and the versions of the code that read them."""
    tasks: tuple[Task, ...]
    numeric: tuple[NumericEncoder, ...]
    categorical: tuple[CategoricalEncoder | BinEncoder, ...]
    step_numeric: tuple[NumericEncoder, ...] = ()
    """Of the columns that have a value a step."""
    step_categorical: tuple[CategoricalEncoder | BinEncoder, ...] = ()
    weighted: tuple[str, ...] = ()
    """Tasks whose rows have weights."""
    label_mean: tuple[float, ...]
    """Per task, for standardising labels: the training rows' mean; 0 for a task that is no regression."""
    label_std: tuple[float, ...]
    """Per task: the training rows' standard deviation; 1 for a task that is no regression."""
    centred: tuple[str, ...] = ()
    """Tasks whose labels are stored less their mean, since float32 would blur labels so far from 0."""
    splits: tuple[SplitCounts, ...]
    notes: tuple[str, ...] = ()
    """What a user should know of this data, a sentence each."""

    @property
    def has_steps(self) -> bool:
        """Whether a row is a sequence."""
        return bool(self.step_numeric or self.step_categorical)

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the F columns of `numeric_NF`, missing-value indicators included."""
        return output_names(self.numeric)

    @property
    def num_numeric(self) -> int:
        """F."""
        return len(self.numeric_names)

    @property
    def categorical_names(self) -> tuple[str, ...]:
        """Names of the C columns of `categorical_NC`."""
        return tuple(encoder.name for encoder in self.categorical)

    @property
    def categories(self) -> dict[str, int]:
        """Categorical column → how many categories the training rows have."""
        return {encoder.name: encoder.cardinality - FIRST for encoder in self.categorical}

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Per categorical column: its number of indices."""
        return tuple(encoder.cardinality for encoder in self.categorical)

    @property
    def num_columns(self) -> int:
        """Of rows and steps together, as they are encoded."""
        of_steps = self.num_step_numeric + len(self.step_categorical)
        return self.num_numeric + len(self.categorical) + of_steps

    @property
    def num_step_numeric(self) -> int:
        """S."""
        return len(output_names(self.step_numeric))

    @property
    def step_cardinalities(self) -> tuple[int, ...]:
        """Per categorical column of a step: its number of indices."""
        return tuple(encoder.cardinality for encoder in self.step_categorical)

    @property
    def step_channels(self) -> tuple[int, ...]:
        """Per column of a step, numeric ones first: its channel, counted from 0 as they come.

        Columns that tell of one measured variable (its values, their mean, their bins, whether it was measured or is
        missing) are a channel; any other column is one by itself.
        """
        names = [encoder.name for encoder in self.step_numeric]
        variables = dict(zip(names, variables_of(names), strict=True))
        told_of = [("number", variables[encoder.name]) for encoder in self.step_numeric for _ in encoder.outputs]
        for encoder in self.step_categorical:
            if isinstance(encoder, BinEncoder):
                told_of.append(("number", variables[encoder.column]))
            else:
                told_of.append(("category", encoder.name))
        channels = list(dict.fromkeys(told_of))
        return tuple(channels.index(one) for one in told_of)

    @property
    def row_tasks(self) -> tuple[Task, ...]:
        """Tasks with one label a row, whose labels are `labels_NL`."""
        return tuple(task for task in self.tasks if not task.per_step)

    @property
    def step_tasks(self) -> tuple[Task, ...]:
        """Tasks with a label a step, whose labels are `labels_MJ`."""
        return tuple(task for task in self.tasks if task.per_step)

    def label_offset(self, task: str) -> float:
        """What the labels of a task are stored less."""
        means = zip(self.tasks, self.label_mean, strict=True)
        return next(mean for each, mean in means if each.name == task) if task in self.centred else 0.0

    def counts(self, name: SplitName) -> SplitCounts:
        """One split's counts."""
        return next(counts for counts in self.splits if counts.name == name)


def output_names(encoders: Sequence[NumericEncoder]) -> tuple[str, ...]:
    """Names of the columns that the encoders give."""
    return tuple(name for encoder in encoders for name in encoder.outputs)


def variables_of(names: Sequence[str]) -> tuple[str, ...]:
    """The measured variable that each numeric column of a step tells of."""
    if all(name in CHANNEL_OF for name in names):
        return tuple(CHANNEL_OF[name] for name in names)
    return measured_variables(names)

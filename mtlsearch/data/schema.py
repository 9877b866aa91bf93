"""What a store holds: tasks, columns with their encoders, counts. Kept as schema.json, and with a model."""

from __future__ import annotations

from mtlsearch.config.base import Config
from mtlsearch.config.task import Task
from mtlsearch.data.columns import SplitName
from mtlsearch.data.encoders import CategoricalEncoder, NumericEncoder


class SplitCounts(Config):
    """How much of what one split holds."""

    name: SplitName
    num_rows: int
    missing: tuple[int, ...]
    """Per task: rows without a label."""
    positives: tuple[int | None, ...]
    """Per task: rows with label 1; None where the task is not binary."""


class DataSchema(Config):
    """Everything about a data set but its rows."""

    source: str
    data_digest: str
    """Names the source's files (by content), its options and the versions of the code that read them."""
    tasks: tuple[Task, ...]
    numeric: tuple[NumericEncoder, ...]
    categorical: tuple[CategoricalEncoder, ...]
    label_mean: tuple[float, ...]
    """Per task, for standardising labels: the training rows' mean; 0 for a task that is no regression."""
    label_std: tuple[float, ...]
    """Per task: the training rows' standard deviation; 1 for a task that is no regression."""
    splits: tuple[SplitCounts, ...]

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the F columns of `numeric_NF`, missing-value indicators included."""
        return tuple(name for encoder in self.numeric for name in encoder.outputs)

    @property
    def num_numeric(self) -> int:
        """F."""
        return len(self.numeric_names)

    @property
    def categorical_names(self) -> tuple[str, ...]:
        """Names of the C columns of `categorical_NC`."""
        return tuple(encoder.name for encoder in self.categorical)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Per categorical column: its number of indices."""
        return tuple(encoder.cardinality for encoder in self.categorical)

    def counts(self, name: SplitName) -> SplitCounts:
        """One split's counts."""
        return next(counts for counts in self.splits if counts.name == name)

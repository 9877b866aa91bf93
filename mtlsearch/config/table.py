"""The user's own table, or table of sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mtlsearch.config.base import Config
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import METRICS, TaskKind

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]


def can_be_named(name: str) -> bool:
    """Whether a task may have the name: scores are called `task/metric`, and `test/task/metric` on test."""
    return "/" not in name and name != "test"


class TableTask(Config):
    """One task: which column holds its labels, and of what kind they are."""

    column: Name | None = None
    """The column of the labels; empty cells are missing labels. A list column of a multilabel task holds its labels'
    names, or a 0 or 1 for each."""
    columns: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = None
    """Of a multilabel task: a column of 0 and 1 a label."""
    kind: TaskKind
    name: Name | None = None
    """The column's name when left out."""
    metric: str | None = None
    """The main metric where it is not the kind's first."""
    positive: str | float | bool | None = None
    """Of a binary task whose column is not 0 and 1 (or false and true): the value that counts as 1."""
    weight: Name | None = None
    """A column of numbers, at least 0: how much a row's loss counts."""
    unit: str = ""
    """Unit of a regression task's labels, for people."""
    at_step: Annotated[int, Field(ge=0)] | None = None
    """Of sequences with one label each: the step, from 0, at which it is predicted; the last one when left out."""

    @model_validator(mode="after")
    def _columns_fit(self) -> TableTask:
        if (self.column is None) == (self.columns is None):
            raise ValueError("a task has either `column` or, when it is multilabel, `columns`")
        if self.columns is not None and self.kind != "multilabel":
            raise ValueError(f"`columns` belongs to a multilabel task, but this one is {self.kind}: give `column`")
        if self.columns is not None and self.name is None:
            raise ValueError("a task with `columns` needs a `name`")
        if not can_be_named(self.title):
            raise ValueError(
                f"a task's name must be without `/`, which parts it from its metric's, and not `test`, but it is "
                f"{self.title!r}: give it another `name`"
            )
        if self.positive is not None and self.kind != "binary":
            raise ValueError(f"`positive` belongs to a binary task, but this one is {self.kind}")
        if self.metric is not None and self.metric not in METRICS[self.kind]:
            raise ValueError(
                f"the metric of a {self.kind} task must be one of {', '.join(METRICS[self.kind])}, but it is "
                f"{self.metric!r}"
            )
        return self

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Every column that holds its labels."""
        return self.columns or (str(self.column),)

    @property
    def title(self) -> str:
        """Its name, by default the column's."""
        return self.name or str(self.column)


def _encoding(value: Any) -> Any:
    """`encode: log` is short for `encode: {kind: log}`."""
    return {"kind": value} if isinstance(value, str) else value


class ColumnConfig(Config):
    """What a column is taken as, where the guess would be wrong."""

    type: Literal["auto", "number", "category", "drop"] = "auto"
    encode: Annotated[Encoding, BeforeValidator(_encoding, json_schema_input_type=Encoding | str)] = Encoding()
    """Of a number."""

    @model_validator(mode="after")
    def _only_numbers_are_encoded(self) -> ColumnConfig:
        # By value: what another process reads back from our JSON has every field set.
        if self.type in ("category", "drop") and self.encode != Encoding():
            raise ValueError(f"`encode` belongs to a number, but the type is {self.type}: remove one of them")
        return self


def _column(value: Any) -> Any:
    """`zip: category` is short for `zip: {type: category}`."""
    return {"type": value} if isinstance(value, str) else value


class FractionsConfig(Config):
    """A split into parts of these shares."""

    train: Annotated[float, Field(gt=0, lt=1)] = 0.7
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    test: Annotated[float, Field(gt=0, lt=1)] = 0.15
    seed: int = 0
    """Of the random order; a split by time needs none."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> FractionsConfig:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test must sum to 1, but they sum to {total:g}")
        return self


Channel = Literal["last", "mean", "measured"]


class SequenceConfig(Config):
    """How rows become sequences.

    Long format: a row is a moment; `id` says of which sequence, `time` when. Nested: a row is a sequence, whose
    steps are its list columns; then `id` is left out.
    """

    id: Name | None = None
    """Column that names the sequence (long format)."""
    time: Name | None = None
    """Column by which rows of a sequence are ordered: numbers, dates or timestamps; in nested data a list column."""
    step: Annotated[float, Field(gt=0)] | None = None
    """Length of a step in the unit of `time` (seconds, for timestamps). Left out, every row is a step."""
    channels: Annotated[tuple[Channel, ...], Field(strict=False, min_length=1)] = ("last", "mean", "measured")
    """What a step of the given length has for each number: its last value so far, the mean within the step (the last
    value where nothing was measured), whether it was measured in the step."""
    start: Literal["first", "zero"] = "first"
    """Where the first step begins: at the sequence's first row, or at time 0."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Longer sequences lose their first steps."""
    variable: Name | None = None
    """Long format with a row a measurement: the column that names what was measured; `value` holds the number."""
    value: Name | None = None
    static: Names = ()
    """Columns that hold one value a sequence: inputs beside the steps, or labels of whole sequences. The first that
    is there counts. (Of nested data, and of a file of `static_path`, these are known.)"""
    static_path: str | None = None
    """A second file with one row a sequence and the same `id` column."""
    summaries: bool = False
    """Whether each number's mean, min, max, first, last and count over the sequence become inputs of the sequence.
    Not where a task has a label a step or `at_step`: they would tell it the future."""

    @model_validator(mode="after")
    def _fits(self) -> SequenceConfig:
        if (self.variable is None) != (self.value is None):
            raise ValueError("`variable` and `value` are given together, or neither")
        if self.variable is not None and (self.id is None or self.time is None or self.step is None):
            raise ValueError("a row a measurement (`variable`) needs `id`, `time` and `step`")
        if self.step is not None and self.time is None:
            raise ValueError("`step` needs `time`")
        if self.id is None and (self.static or self.static_path):
            raise ValueError("`static` and `static_path` belong to the long format, which has an `id`")
        return self


class TableConfig(Config):
    """Your own table or sequences: Parquet, CSV, Feather, or a folder or glob of them."""

    source: Literal["table"] = "table"
    path: str
    """A file, a folder of files, or a glob: .parquet, .csv, .csv.gz, .tsv, .feather, .arrow."""
    tasks: Annotated[tuple[TableTask, ...], Field(min_length=1, strict=False)]
    columns: Mapping[
        Name, Annotated[ColumnConfig, BeforeValidator(_column, json_schema_input_type=ColumnConfig | str)]
    ] = {}
    """Columns whose type or encoding is not to be guessed; `number`, `category` and `drop` may stand alone. One that
    is listed is an input though it looks like an identifier or free text."""
    drop: Names = ()
    """Columns that are no inputs."""
    missing: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    """What stands for a missing value in a CSV file. Left out: an empty cell, and of numbers
    NA, NaN, null and ? too."""
    group: Name | None = None
    """Column whose equal values (a patient, a user) never straddle splits. No input."""
    time: Name | None = None
    """Column by which splits follow each other: train first, test last; with `group`, groups by their earliest time.
    An input only if `columns` lists it."""
    split: Name | FractionsConfig = FractionsConfig()
    """A column that says train, validation (valid, val, dev) or test, or the shares of a split. Without `group` and
    `time` the split is random, with the same share of the rarest binary task's positives everywhere."""
    sequence: SequenceConfig | None = None
    """For sequences: how rows make them."""

    @property
    def has_steps(self) -> bool:
        """Whether rows are sequences."""
        return self.sequence is not None

    @property
    def labels_alone(self) -> frozenset[str]:
        """Columns that hold labels and nothing else. A file that lacks one has no label of that task."""
        also = {self.group, self.time, self.split, *(task.weight for task in self.tasks)}
        if self.sequence is not None:
            also |= {self.sequence.id, self.sequence.time, self.sequence.variable, self.sequence.value}
        return frozenset(name for task in self.tasks for name in task.label_columns if name not in also)

    @model_validator(mode="after")
    def _tasks_fit(self) -> TableConfig:
        titles = [task.title for task in self.tasks]
        if twice := [title for title in titles if titles.count(title) > 1]:
            raise ValueError(f"every task has its own name, but {twice[0]!r} is there twice: give one of them a `name`")
        if self.sequence is None and any(task.at_step is not None for task in self.tasks):
            raise ValueError("`at_step` belongs to a task of sequences: remove it, or give `sequence`")
        return self

"""A source's columns → the files of a store.

Axes: N rows, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.data import DataConfig
from mtlsearch.config.task import Task
from mtlsearch.data.arrow import write_split
from mtlsearch.data.checks import check_columns
from mtlsearch.data.columns import SPLITS, Columns, SplitName
from mtlsearch.data.encoders import encode_categorical, encode_numeric, fit_categorical, fit_numeric
from mtlsearch.data.identity import write_whole
from mtlsearch.data.schema import DataSchema, SplitCounts
from mtlsearch.data.sources import source_of, tasks_of
from mtlsearch.data.split import Split

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats

SCHEMA = "schema.json"


def convert(config: DataConfig, digest: str, folder: Path) -> None:
    """Reads the source and writes its splits and schema into the folder, the schema last."""
    source, tasks = source_of(config), tasks_of(config)
    columns = source.read(tasks)
    check_columns(columns, tasks, source.files()[0])
    schema = fit_schema(columns, tasks, config.source, digest)
    for name in SPLITS:
        write_split(encode_split(columns, schema, name), folder)
    write_whole(folder / SCHEMA, schema.model_dump_json(indent=1))


def fit_schema(columns: Columns, tasks: Sequence[Task], source: str, digest: str) -> DataSchema:
    """Learns encoders and label statistics from the training rows; counts every split."""
    train = columns.rows["train"]
    stats = [_label_stats(task, columns.labels[task.name][train]) for task in tasks]
    return DataSchema(
        source=source,
        data_digest=digest,
        tasks=tuple(tasks),
        numeric=tuple(fit_numeric(name, column[train]) for name, column in columns.numeric.items()),
        categorical=tuple(fit_categorical(name, column.take(train)) for name, column in columns.categorical.items()),
        label_mean=tuple(mean for mean, _ in stats),
        label_std=tuple(std for _, std in stats),
        splits=tuple(_counts(columns, tasks, name) for name in SPLITS),
    )


def encode_split(columns: Columns, schema: DataSchema, name: SplitName) -> Split:
    """One split's rows as arrays."""
    import numpy as np

    rows = columns.rows[name]
    numeric = {encoder.name: columns.numeric[encoder.name][rows] for encoder in schema.numeric}
    categorical = {encoder.name: columns.categorical[encoder.name].take(rows) for encoder in schema.categorical}
    return Split(
        name=name,
        numeric_NF=encode_numeric(schema.numeric, numeric, len(rows)),
        categorical_NC=encode_categorical(schema.categorical, categorical, len(rows)),
        labels_NK=np.stack([columns.labels[task.name][rows] for task in schema.tasks], axis=1),
        row_N=rows,
    )


def _label_stats(task: Task, train_N: Floats) -> tuple[float, float]:
    import numpy as np

    if task.kind != "regression":
        return 0.0, 1.0
    present = train_N[~np.isnan(train_N)].astype(np.float64)
    return float(present.mean()), float(present.std())


def _counts(columns: Columns, tasks: Sequence[Task], name: SplitName) -> SplitCounts:
    import numpy as np

    labels = [columns.labels[task.name][columns.rows[name]] for task in tasks]
    return SplitCounts(
        name=name,
        num_rows=len(columns.rows[name]),
        missing=tuple(int(np.isnan(label_N).sum()) for label_N in labels),
        positives=tuple(
            int((label_N == 1).sum()) if task.kind == "binary" else None
            for task, label_N in zip(tasks, labels, strict=True)
        ),
    )

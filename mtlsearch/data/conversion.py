"""A source's columns → the files of a store: once over all parts to learn encoders, once more to write.

Axes: N rows of a part, M its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.config.data import DataConfig
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task
from mtlsearch.data.arrow import SplitFiles
from mtlsearch.data.checks import check_finite, check_rows
from mtlsearch.data.columns import SPLITS, Columns, SplitName, StepPart
from mtlsearch.data.encoders import (
    BinEncoder,
    CategoricalEncoder,
    NumericEncoder,
    encode_categorical,
    encode_numeric,
)
from mtlsearch.data.fitting import BinFit, CategoricalFit, NumericFit
from mtlsearch.data.identity import write_whole
from mtlsearch.data.labels import Labels, check_labels, no_labels, one_class_notes
from mtlsearch.data.parts import PlacedPart, labels_of, placed_parts, take_rows
from mtlsearch.data.schema import DataSchema, SplitCounts
from mtlsearch.data.sources import source_of, tasks_of
from mtlsearch.data.split import Split, StepArrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, LabelValues

SCHEMA = "schema.json"


def convert(config: DataConfig, digest: str, folder: Path) -> None:
    """Reads the source and writes its splits and schema into the folder, the schema last."""
    source = source_of(config)
    columns = source.read(tasks_of(config))
    file = next(iter(source.files()), None)
    check_rows(columns, file)
    schema = fit_schema(columns, config.source, digest, file)
    write_splits(columns, schema, folder)
    write_whole(folder / SCHEMA, schema.model_dump_json(indent=1))


def fit_schema(columns: Columns, source: str, digest: str, file: Path | None) -> DataSchema:
    """Learns encoders and label statistics from the training rows; counts every split.

    Raises:
        ConfigError: a value is infinite, or a task has nothing to learn.
    """
    fits, step_fits, labels = _Fits(columns.encodings), _Fits(columns.encodings), no_labels(columns.tasks)
    num_steps = dict.fromkeys(SPLITS, 0)
    weighted: tuple[str, ...] = ()
    for placed in placed_parts(columns, "reading"):
        _check_part(placed, file)
        weighted = tuple(placed.part.weights)
        for name in SPLITS:
            chosen = take_rows(placed.part, placed.rows[name])
            num_steps[name] += int(chosen.steps.length_N.sum()) if chosen.steps is not None else 0
            for fit in labels[name]:
                fit.add(labels_of(chosen, fit.task))
            if name == "train":
                fits.add(chosen.numeric, chosen.categorical)
                if chosen.steps is not None:
                    step_fits.add(chosen.steps.numeric, chosen.steps.categorical)
    check_labels(labels, file)
    return DataSchema(
        source=source,
        data_digest=digest,
        tasks=columns.tasks,
        numeric=fits.numeric,
        categorical=fits.categorical,
        step_numeric=step_fits.numeric,
        step_categorical=step_fits.categorical,
        weighted=weighted,
        label_mean=tuple(fit.scale[0] for fit in labels["train"]),
        label_std=tuple(fit.scale[1] for fit in labels["train"]),
        centred=tuple(fit.task.name for fit in labels["train"] if fit.is_far),
        splits=tuple(_counts(name, len(columns.rows[name]), num_steps[name], labels) for name in SPLITS),
        notes=(*columns.notes, *one_class_notes(labels)),
    )


def write_splits(columns: Columns, schema: DataSchema, folder: Path) -> None:
    """Encodes all parts and writes the splits' files."""
    files = {name: SplitFiles(folder, name) for name in SPLITS}
    for placed in placed_parts(columns, "writing"):
        for name in SPLITS:
            files[name].append(encode_part(placed, schema, name))
    for name in SPLITS:
        files[name].finish()


def encode_part(placed: PlacedPart, schema: DataSchema, name: SplitName) -> Split:
    """One split's rows of a part as arrays."""
    rows_N = placed.rows[name]
    chosen, num_rows = take_rows(placed.part, rows_N), len(rows_N)
    split = Split(
        name=name,
        numeric_NF=encode_numeric(schema.numeric, chosen.numeric, num_rows),
        categorical_NC=encode_categorical(schema.categorical, chosen.categorical, chosen.numeric, num_rows),
        labels_NL=_matrix([_stored(chosen.labels, task, schema) for task in schema.row_tasks], num_rows),
        weights_NW=_matrix([chosen.weights[task] for task in schema.weighted], num_rows),
        row_N=rows_N + placed.first_row,
    )
    return split if chosen.steps is None else replace(split, steps=_encode_steps(chosen.steps, schema))


class _Fits:
    """The encoders of all columns, of rows or of steps, as they are learnt."""

    def __init__(self, encodings: Mapping[str, Encoding]) -> None:
        self._encodings = encodings
        self._numeric: dict[str, NumericFit] = {}
        self._categorical: dict[str, CategoricalFit] = {}
        self._bins: dict[str, BinFit] = {}

    def add(self, numeric: Mapping[str, Floats], categorical: Mapping[str, Any]) -> None:
        for name, column in numeric.items():
            encoding = self._encodings.get(name, Encoding())
            if name not in self._numeric:
                self._numeric[name] = NumericFit(name, encoding)
                if encoding.bins is not None:
                    self._bins[name] = BinFit(name, encoding.bins)
            self._numeric[name].add(column)
            if name in self._bins:
                self._bins[name].add(column)
        for name, column in categorical.items():
            self._categorical.setdefault(name, CategoricalFit(name)).add(column)

    @property
    def numeric(self) -> tuple[NumericEncoder, ...]:
        return tuple(fit.encoder() for fit in self._numeric.values())

    @property
    def categorical(self) -> tuple[CategoricalEncoder | BinEncoder, ...]:
        texts = tuple(fit.encoder() for fit in self._categorical.values())
        return texts + tuple(fit.encoder() for fit in self._bins.values())


def _check_part(placed: PlacedPart, file: Path | None) -> None:
    part = placed.part
    for name, column_N in (*part.numeric.items(), *part.labels.items()):
        check_finite(name, column_N, placed.first_row, file)
    if part.steps is not None:
        for name, column_M in (*part.steps.numeric.items(), *part.steps.labels.items()):
            check_finite(name, column_M, 0, file)


def _encode_steps(steps: StepPart, schema: DataSchema) -> StepArrays:
    import numpy as np

    num_steps = int(steps.length_N.sum())
    return StepArrays(
        offset_N=np.concatenate([np.zeros(1, np.int64), np.cumsum(steps.length_N)]),
        numeric_MS=encode_numeric(schema.step_numeric, steps.numeric, num_steps),
        categorical_MD=encode_categorical(schema.step_categorical, steps.categorical, steps.numeric, num_steps),
        labels_MJ=_matrix([_stored(steps.labels, task, schema) for task in schema.step_tasks], num_steps),
    )


def _stored(labels: Mapping[str, LabelValues], task: Task, schema: DataSchema) -> LabelValues:
    """A task's labels less what float32 has no digits for."""
    import numpy as np

    offset = schema.label_offset(task.name)
    return labels[task.name].astype(np.float64) - offset if offset else labels[task.name]


def _matrix(columns: Sequence[LabelValues], num_rows: int) -> NDArray[Any]:
    """Columns [N] and [N, L] side by side."""
    import numpy as np

    empty = np.empty((num_rows, 0), np.float32)
    return np.concatenate([empty, *(c if c.ndim == 2 else c[:, None] for c in columns)], axis=1, dtype=np.float32)


def _counts(name: SplitName, num_rows: int, num_steps: int, labels: Labels) -> SplitCounts:
    return SplitCounts(
        name=name,
        num_rows=num_rows,
        num_steps=num_steps,
        missing=tuple(fit.missing for fit in labels[name]),
        frequencies=tuple(tuple(fit.frequencies.tolist()) for fit in labels[name]),
        alike=tuple(fit.trivial for fit in labels[name]),
    )

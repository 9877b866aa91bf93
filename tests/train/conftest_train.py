"""What the tests of training share, also with processes that they start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlsearch.config import Task, TrialConfig
from mtlsearch.data import DataSchema, Split, Store
from mtlsearch.data.arrow import SplitFiles
from mtlsearch.data.columns import SPLITS, SplitName
from mtlsearch.data.encoders import CategoricalEncoder, NumericEncoder
from mtlsearch.data.split import StepArrays
from mtlsearch.folder import TrialFolder
from mtlsearch.records import EpochMetrics, EpochReport, TrialOrder
from mtlsearch.train import Checkpoints, TensorData, World, fit
from mtlsearch.train.batch import Batch
from mtlsearch.train.checkpoint import Checkpoint, Place, decode

TASKS = (
    Task(name="late", kind="binary"),
    Task(name="delay", kind="regression", unit="minutes"),
    Task(name="gone", kind="binary"),
)
SEQUENCE_TASKS = (
    Task(name="sick", kind="binary", per_step=True),
    Task(name="died", kind="binary", at_step=4),
    Task(name="stay", kind="regression"),
    Task(name="signs", kind="multilabel", classes=("a", "b")),
    Task(name="group", kind="multiclass", classes=("x", "y", "z"), at_step=2),
)
ROWS: dict[SplitName, int] = {"train": 512, "validation": 256, "test": 256}
MEAN, STD = 40.0, 15.0
CPU = torch.device("cpu")


def learnable(rows: Mapping[SplitName, int] = ROWS) -> TensorData:
    """Labels that follow the inputs, some of them missing; the same every time."""
    return TensorData.of(schema(TASKS), table_splits(rows), CPU)


def learnable_sequences(rows: Mapping[SplitName, int] = ROWS) -> TensorData:
    """Sequences of 1 to 9 steps with labels of every kind."""
    return TensorData.of(schema(SEQUENCE_TASKS), sequence_splits(rows), CPU)


def store_of(folder: Path, whole: DataSchema, splits: Mapping[SplitName, Split]) -> Store:
    """A store with these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        files = SplitFiles(folder, name)
        files.append(split)
        files.finish()
    (folder / "schema.json").write_text(whole.model_dump_json())
    return Store.open(folder)


def schema(tasks: tuple[Task, ...], weighted: tuple[str, ...] = ()) -> DataSchema:
    """Five numbers and one category of four a row; of sequences three numbers and one category of three a step."""
    is_sequence = tasks == SEQUENCE_TASKS
    scales = [(MEAN, STD) if task.kind == "regression" else (0.0, 1.0) for task in tasks]
    return DataSchema(
        source="toy",
        data_digest="toy",
        tasks=tasks,
        numeric=tuple(NumericEncoder(name=f"x{index}", kind="none") for index in range(5)),
        categorical=(CategoricalEncoder(name="kind", vocabulary=("a", "b")),),
        step_numeric=tuple(NumericEncoder(name=f"s{index}", kind="none") for index in range(3 * is_sequence)),
        step_categorical=(CategoricalEncoder(name="ward", vocabulary=("a",)),) * is_sequence,
        weighted=weighted,
        label_mean=tuple(mean for mean, _ in scales),
        label_std=tuple(std for _, std in scales),
        splits=(),
    )


def table_splits(rows: Mapping[SplitName, int] = ROWS, num_weights: int = 0) -> dict[SplitName, Split]:
    """Of TASKS. A row's first input is also where its number can be told from."""
    draw = np.random.default_rng(11)
    return {name: _table(name, rows[name], num_weights, draw) for name in SPLITS}


def sequence_splits(rows: Mapping[SplitName, int] = ROWS, most_steps: int = 9) -> dict[SplitName, Split]:
    """Of SEQUENCE_TASKS."""
    draw = np.random.default_rng(12)
    return {name: _sequences(_table(name, rows[name], 0, draw), most_steps, draw) for name in SPLITS}


def _table(name: SplitName, count: int, num_weights: int, draw: np.random.Generator) -> Split:
    numeric_nf = draw.normal(size=(count, 5)).astype(np.float32)
    categorical_nc = draw.integers(0, 4, (count, 1), dtype=np.int32)
    late_n = numeric_nf[:, 0] + 0.3 * draw.normal(size=count) > 0
    delay_n = numeric_nf[:, 1] + 0.5 * (categorical_nc[:, 0] == 2) + 0.1 * draw.normal(size=count)
    gone_n = (numeric_nf[:, 2] > 0.5) | (categorical_nc[:, 0] == 1)
    labels_nl = np.stack([late_n, delay_n * STD + MEAN, gone_n], axis=1).astype(np.float32)
    labels_nl[draw.random((count, 3)) < 0.25] = np.nan
    weights_nw = draw.random((count, num_weights), dtype=np.float32)
    return Split(name, numeric_nf, categorical_nc, labels_nl, weights_nw, np.arange(count))


def _sequences(table: Split, most_steps: int, draw: np.random.Generator) -> Split:
    length_n = draw.integers(1, most_steps + 1, table.num_rows)
    offset_n, num_steps = np.concatenate([[0], np.cumsum(length_n)]), int(length_n.sum())
    numeric_ms = draw.normal(size=(num_steps, 3)).astype(np.float32)
    sick_mj = (numeric_ms[:, :1] > 0.3).astype(np.float32)
    sick_mj[draw.random((num_steps, 1)) < 0.2] = np.nan
    died_n, stay_n, sign_n = table.labels_NL.T
    group_n = table.categorical_NC[:, 0] % 3
    return replace(
        table,
        labels_NL=np.stack([died_n, stay_n, sign_n, 1 - sign_n, group_n], axis=1).astype(np.float32),
        steps=StepArrays(offset_n, numeric_ms, draw.integers(0, 3, (num_steps, 1), dtype=np.int32), sick_mj),
    )


def first_batch(data: TensorData, num_rows: int, split: SplitName = "train") -> Batch:
    """The first rows of a table as one batch."""
    return next(data.ordered(split, num_rows, World()))


def order(epochs: int = 3, tasks: tuple[Task, ...] = TASKS, **config: Any) -> TrialOrder:
    """An order to train on `learnable`; `config` changes fields of the trial's configuration."""
    fields: dict[str, Any] = {"model": {"kind": "mmoe", "hidden": 16}, "batch_size": 64, "optimizer": {"kind": "adamw"}}
    return TrialOrder(
        number=3,
        role="trial",
        config=TrialConfig.model_validate(fields | config),
        seed=17,
        epochs=epochs,
        tasks=tuple(task.name for task in tasks),
        metric="mean",
    )


ONE_RANK = World()


def trained(
    order: TrialOrder,
    data: TensorData,
    folder: TrialFolder,
    world: World = ONE_RANK,
    generation: int | None = None,
    epochs: int | None = None,
) -> list[EpochMetrics]:
    """Trains as a driver lets train: what is new is a line of metrics.jsonl, and what the model is stands beside it.

    Args:
        generation: of this start; the one after all that left checkpoints when not said.
        epochs: to pull at most; all that are left when not said.
    Returns:
        The new epochs; none on ranks other than 0, which touch no file.
    """
    if not world.is_main:
        assert not any(itertools.islice(fit(order, data, None, world), epochs)), "rank 0 reports"
        return []
    folder.begin(order)
    start = next_generation(folder) if generation is None else generation
    reports = fit(order, data, Checkpoints(folder.checkpoints, start), world)
    return list(itertools.islice(heard(reports, folder), epochs))


def heard(reports: Iterator[EpochReport | None], folder: TrialFolder) -> Iterator[EpochMetrics]:
    """The epochs that are new, each once it is in the trial's folder."""
    last = max((each.epoch for each in folder.epochs()), default=0)
    for report in reports:
        assert report is not None, "rank 0 reports"
        if report.metrics.epoch > last:
            folder.write_model(report.model)
            folder.append(report.metrics)
            yield report.metrics


def next_generation(folder: TrialFolder) -> int:
    """Larger than those of all checkpoints that are there."""
    return 1 + max((place.generation for place in places(folder)), default=0)


def places(folder: TrialFolder) -> list[Place]:
    """Of the checkpoints that are there, oldest first."""
    return sorted(place for name in folder.checkpoints.names() if (place := Place.parse(name)) is not None)


def last_state(folder: TrialFolder) -> Checkpoint:
    """What the trial would go on from."""
    newest = Checkpoints(folder.checkpoints).newest()
    assert newest is not None, "there is a checkpoint"
    return decode(newest, CPU)


def best_state(folder: TrialFolder) -> Checkpoint:
    """What would be exported."""
    best = Checkpoints(folder.checkpoints).best(CPU)
    assert best is not None, "there is a checkpoint"
    return best


def measured(metrics: list[EpochMetrics]) -> list[dict[str, Any]]:
    """Everything but the clock."""
    return [each.model_dump(exclude={"seconds", "samples_per_second"}) for each in metrics]


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """To the last bit."""
    return one.model.keys() == other.model.keys() and all(
        torch.equal(one.model[name], other.model[name]) for name in one.model
    )

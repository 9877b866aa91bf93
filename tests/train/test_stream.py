"""A store that is streamed gives what it gives from memory, in another order, and keeps little of itself in memory."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from conftest_train import (
    CPU,
    SEQUENCE_TASKS,
    TASKS,
    learnable_sequences,
    order,
    schema,
    sequence_splits,
    store_of,
    table_splits,
    trained,
)
from pyarrow import csv, parquet

from mtlsearch.config import TableConfig
from mtlsearch.data import Store, open_store
from mtlsearch.data.columns import SplitName
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.models import build_model
from mtlsearch.train import TensorData, World
from mtlsearch.train.batch import Batch
from mtlsearch.train.evaluate import evaluate

ROWS: dict[SplitName, int] = {"train": 2003, "validation": 301, "test": 10}
WINDOW = 20_000
"""Bytes: some windows an epoch, and chunks of a few rows."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Rows of TASKS, one of which has weights."""
    return store_of(
        tmp_path_factory.mktemp("table"), schema(TASKS, weighted=("gone",)), table_splits(ROWS, num_weights=1)
    )


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Sequences of SEQUENCE_TASKS."""
    return store_of(tmp_path_factory.mktemp("sequences"), schema(SEQUENCE_TASKS), sequence_splits(ROWS))


@pytest.fixture(params=["table", "sequences"])
def store(request: pytest.FixtureRequest) -> Store:
    """Either."""
    found: Store = request.getfixturevalue(request.param)
    return found


def streamed(store: Store) -> TensorData:
    """The store in small windows."""
    return TensorData.load(store, CPU, "stream", window_bytes=WINDOW)


def epoch(data: TensorData, world: World | None = None, seed: int = 5) -> list[Batch]:
    """An epoch's batches of 64."""
    return list(data.epoch(torch.Generator().manual_seed(seed), 64, world or World()))


def rows(batches: list[Batch]) -> dict[float, list[float]]:
    """First input → everything else of the row, padding left out; no two rows have the same first input."""
    found: dict[float, list[float]] = {}
    for batch in batches:
        inputs = batch.inputs
        for b, numbers in enumerate(inputs.numeric_BF.tolist()):
            everything = [*numbers, *inputs.categorical_BC[b].tolist()]
            here = slice(b, b + 1) if batch.row_P is None else batch.row_P == b
            if inputs.steps is not None:
                length = int(inputs.steps.length_B[b])
                everything += inputs.steps.numeric_BTS[b, :length].flatten().tolist()
                everything += inputs.steps.categorical_BTD[b, :length].flatten().tolist()
            everything += batch.labels_PL[here].nan_to_num(-9).flatten().tolist()
            everything += [] if batch.weight_PL is None else batch.weight_PL[here].flatten().tolist()
            assert numbers[0] not in found, "a row came twice"
            found[numbers[0]] = everything
    return found


def test_an_epoch_has_every_row_once_and_all_of_it(store: Store) -> None:
    batches = epoch(streamed(store))
    assert rows(batches) == rows(epoch(TensorData.load(store, CPU)))
    assert max(batch.num_rows for batch in batches) <= 64


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_labels_in_different_files_come_as_from_memory(tmp_path: Path, suffix: str) -> None:
    """Each task's labels are in a file of its own; one of them are Unix times."""
    part = ["train", "train", "validation", "test"]
    for task, far in (("late", 0), ("when", 1.7e9)):
        columns = {task: [i // 4 % 2 + far for i in range(400)], "part": [part[i % 4] for i in range(400)]}
        table = pa.table(columns | {"x": [i + 1000 * bool(far) for i in range(400)]})
        path = str(tmp_path / f"{task}{suffix}")
        csv.write_csv(table, path) if suffix == ".csv" else parquet.write_table(table, path)
    tasks = [{"column": "late", "kind": "binary"}, {"column": "when", "kind": "regression"}]
    config = TableConfig.model_validate({"path": f"{tmp_path}/*{suffix}", "tasks": tasks, "split": "part"})
    store = open_store(config, tmp_path / "cache")
    assert store.schema.counts("train").missing == (200, 200)
    batches = epoch(TensorData.load(store, CPU, "stream", window_bytes=2_000))
    assert rows(batches) == rows(epoch(TensorData.load(store, CPU)))
    labels = torch.cat([batch.labels_PL for batch in batches])
    assert (~labels.isnan()).sum(0).tolist() == [200, 200]
    assert set(labels[:, 1][~labels[:, 1].isnan()].tolist()) == {-1.0, 1.0}


def test_predictions_are_made_for_every_row(store: Store) -> None:
    for split in ("train", "validation"):
        whole = rows(list(TensorData.load(store, CPU).ordered(split, 50, World())))
        for size in (1, 3):
            shares = [list(streamed(store).ordered(split, 50, World(rank, size))) for rank in range(size)]
            assert rows([batch for share in shares for batch in share]) == whole


def test_the_generator_decides_the_order(store: Store) -> None:
    first, same, other = (list(rows(epoch(streamed(store), seed=seed))) for seed in (5, 5, 6))
    assert first == same
    assert first != other


def test_neighbours_in_the_file_are_not_neighbours_in_batches(table: Store) -> None:
    place = {value: row for row, value in enumerate(table.split("train").numeric_NF[:, 0].tolist())}
    for batch in epoch(streamed(table))[:5]:
        places = [place[value] for value in batch.inputs.numeric_BF[:, 0].tolist()]
        assert max(places) - min(places) > 1000


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_read_disjoint_shards_of_equal_size(store: Store, size: int) -> None:
    """All rows but fewer than a rank's worth are seen, and no rank has a step more than another."""
    dealt = [epoch(streamed(store), World(rank, size)) for rank in range(size)]
    assert len({len(batches) for batches in dealt}) == 1
    assert all(len({batch.num_rows for batch in step}) == 1 for step in zip(*dealt, strict=True))
    seen = rows([batch for batches in dealt for batch in batches])
    assert ROWS["train"] - size < len(seen) <= ROWS["train"]
    if not (has_steps := store.schema.has_steps):
        assert max(sum(batch.num_rows for batch in step) for step in zip(*dealt, strict=True)) <= 64, has_steps


def readers() -> list[threading.Thread]:
    """Threads that read ahead."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("mtlsearch-read")]


def test_the_thread_ends_with_the_epoch_and_when_it_is_abandoned(store: Store) -> None:
    generator = torch.Generator()
    with closing(streamed(store).epoch(generator, 64, World())) as batches:
        next(batches)
        assert readers()
    assert not readers()
    epoch(streamed(store))
    assert not readers()
    next(streamed(store).epoch(generator, 64, World()))  # dropped at once
    assert not readers()


def test_what_fails_in_the_thread_reaches_the_trainer(tmp_path: Path) -> None:
    data = streamed(store_of(tmp_path, schema(TASKS), table_splits(ROWS)))
    (tmp_path / "train.arrow").write_bytes((tmp_path / "train.arrow").read_bytes()[:40_000])
    with pytest.raises(ConfigError, match="must be whole, but ends too early"):
        epoch(data)
    assert not readers()


def test_a_file_that_is_cut_off_is_said_before_it_is_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, schema(TASKS), table_splits(ROWS))
    (tmp_path / "train.arrow").write_bytes(b"ARROW1")
    with pytest.raises(ConfigError, match="must be there and whole"):
        streamed(store)


def test_both_feeds_score_the_same(store: Store) -> None:
    memory, stream = TensorData.load(store, CPU), streamed(store)
    model = build_model(order().config.model, memory.input_spec, memory.tasks, seed=3)
    expected, found = (evaluate(model, data, "validation", World()) for data in (memory, stream))
    assert expected is not None
    assert found is not None
    for task, scores in expected.items():
        assert found[task] == pytest.approx(scores, abs=1e-6), task


def test_a_streamed_trial_goes_on_from_its_checkpoint_to_the_last_bit(store: Store, tmp_path: Path) -> None:
    trial, ends = order(epochs=3, tasks=store.schema.tasks), []
    for name, pieces in (("undisturbed", [3]), ("disturbed", [1, 2])):
        folder = ExperimentFolder(tmp_path / name).trial(3)
        for epochs in pieces:
            trained(trial, streamed(store), folder, epochs=epochs)
        ends.append([each.model_dump(exclude={"seconds", "samples_per_second"}) for each in folder.epochs()])
    assert ends[0] == ends[1]
    assert len(ends[0]) == 3


def test_a_streamed_trial_learns_what_one_in_memory_learns(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", schema(TASKS), table_splits())
    trial, scores = order(epochs=8, optimizer={"kind": "adamw", "lr": 0.01}), []
    for name, data in (("memory", TensorData.load(store, CPU)), ("stream", streamed(store))):
        folder = ExperimentFolder(tmp_path / name).trial(3)
        *_, last = trained(trial, data, folder)
        scores.append(last.objective)
    assert scores[0] == pytest.approx(scores[1], abs=0.03)


EPOCH = """
import sys
from pathlib import Path
import torch
from mtlsearch.data import Store
from mtlsearch.train import TensorData, World
data = TensorData.load(Store.open(Path(sys.argv[1])), torch.device("cpu"), sys.argv[2], window_bytes=8 << 20)
def peak():  # not ru_maxrss, which begins with that of the process that started this one
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
rows = sum(batch.num_rows for batch in data.epoch(torch.Generator(), 4096, World()))
rows += sum(batch.num_rows for batch in data.ordered("train", 8192, World()))
print(rows, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to tell the peak")
def test_a_streamed_epoch_keeps_a_few_windows_in_memory(tmp_path: Path) -> None:
    """210 MB of rows; windows have 8 MB."""
    num_rows = 6_000_000
    store_of(tmp_path, schema(TASKS), table_splits({"train": num_rows, "validation": 10, "test": 10}))
    grown = {}
    for feed in ("memory", "stream"):
        command = [sys.executable, "-c", EPOCH, str(tmp_path), feed]
        seen, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(seen) == 2 * num_rows
        grown[feed] = int(kilobytes) / 1024
    assert grown["stream"] < 60
    assert grown["memory"] > 180  # the measure sees mapped pages


def test_toy_data_agrees_with_its_store(sequences: Store) -> None:
    assert rows(epoch(learnable_sequences(ROWS))) == rows(epoch(TensorData.load(sequences, CPU)))

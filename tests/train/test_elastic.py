"""A trial whose number of ranks changes, also in the middle of an epoch, trains as one rank does all along."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest_train import (
    ROWS,
    SEQUENCE_TASKS,
    TASKS,
    last_state,
    learnable,
    learnable_sequences,
    order,
    schema,
    sequence_splits,
    store_of,
    table_splits,
    trained,
)

from mtlsearch.data import Store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialOrder
from mtlsearch.train import TensorData, World, loop

HERE = Path(__file__).parent
ODD = ROWS | {"train": 513, "validation": 1021}
"""Of batches of 64 the last has one row, which two ranks cannot share."""
TRIALS: dict[str, dict[str, Any]] = {
    "mmoeex": {"model": {"kind": "mmoeex", "hidden": 8, "num_experts": 8}},
    "adashare": {"model": {"kind": "adashare", "hidden": 8, "num_blocks": 2, "warm_up": 0.0}},
    "gru": {"model": {"kind": "mmoe", "hidden": 8, "expert": {"kind": "gru"}}},
    "pcgrad": {"balancing": {"kind": "pcgrad"}},
    "maml_mtl split": {"balancing": {"kind": "maml_mtl", "inner_fraction": 0.75, "order": 2}},
    "gradnorm": {"balancing": {"kind": "gradnorm"}},
    "one task a batch": {"sampling": {"kind": "proportional", "tau": 0.5}},
    "rare classes": {"sampling": {"kind": "stratified", "share": 0.3}},
    "by reward": {"sampling": {"kind": "autosem"}},
    "by excess loss": {"sampling": {"kind": "doremi"}},
}
ONE_TASK = ("one task a batch", "by reward", "by excess loss")
"""A streamed store counts labels in its schema, which the toy's has not."""
JOBS = [
    (data, name)
    for data in ("table", "sequences", "streamed table", "streamed sequences")
    for name in TRIALS
    if ("sequences" in data or name != "gru") and not ("streamed" in data and name in ONE_TASK)
]


class KilledError(Exception):
    """Stands for kill -9: nothing is cleaned up or written."""


def trial_of(data: str, name: str) -> TrialOrder:
    tasks = SEQUENCE_TASKS if "sequences" in data else TASKS
    made = order(tasks=tasks, **({"model": {"kind": "mmoe", "hidden": 8}} | TRIALS[name]))
    return made.model_copy(update={"reference_losses": {task.name: 0.5 for task in tasks}})


def data_of(data: str, root: Path) -> TensorData:
    if data.startswith("streamed"):
        kind = data.removeprefix("streamed ")
        return TensorData.load(Store.open(root / "stores" / kind), torch.device("cpu"), "stream", window_bytes=8_000)
    return learnable(ODD) if data == "table" else learnable_sequences(ODD)


def go_on(root: Path, data: str, name: str, world: World, kill_after: int | None) -> None:
    """Trains until so many steps were taken, with a checkpoint after every third."""
    step, taken = loop.train_step, 0

    def counting(*arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken - 1 == kill_after:
            raise KilledError
        return step(*arguments)

    with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
        patch.setattr(loop, "train_step", counting)
        patch.setattr(loop, "CHECKPOINT_STEPS", 3)
        trained(trial_of(data, name), data_of(data, root), ExperimentFolder(root / data / name).trial(3), world)


RANK = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from test_elastic import JOBS, go_on
from mtlsearch.train import World
rank, port, root, kill_after = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(1)
world = World.join(rank, 2, f"tcp://127.0.0.1:{port}", torch.device("cpu"), 60.0)
for data, name in JOBS:
    go_on(root, data, name, replace(world, most=2, chunks=int(sys.argv[5])), kill_after)
torch.distributed.destroy_process_group()
"""


def with_two_ranks(root: Path, kill_after: int | None, chunks: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), port, str(root), json.dumps(kill_after), str(chunks)],
            cwd=HERE,
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]


def stores(root: Path) -> None:
    for kind, tasks, splits in (("table", TASKS, table_splits), ("sequences", SEQUENCE_TASKS, sequence_splits)):
        store_of(root / "stores" / kind, schema(tasks), splits(ODD))


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks until the first epoch's fifth step, one until the second epoch's seventh or so, two to the end; in
    other numbers of chunks each time."""
    root = tmp_path_factory.mktemp("changing")
    stores(root)
    with_two_ranks(root, kill_after=5, chunks=1)
    for data, name in JOBS:
        go_on(root, data, name, World(chunks=2, most=2), kill_after=12)
        state = last_state(ExperimentFolder(root / data / name).trial(3))
        assert state.under_way is not None, "it was killed in the middle of an epoch"
    with_two_ranks(root, kill_after=None, chunks=3)
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("data", "name"), JOBS)
def test_ranks_that_come_and_go_change_nothing(changing: Path, tmp_path: Path, data: str, name: str) -> None:
    stores(tmp_path)
    go_on(tmp_path, data, name, World(most=2), kill_after=None)
    folders = [ExperimentFolder(root / data / name).trial(3) for root in (tmp_path, changing)]
    expected, found = (last_state(folder) for folder in folders)
    for parameter, value in expected.model.items():
        assert torch.allclose(value.float(), found.model[parameter].float(), rtol=0, atol=1e-6), parameter
    for ours, theirs in zip(*(folder.epochs() for folder in folders), strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-5)
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-4)
        assert ours.task_weights == pytest.approx(theirs.task_weights, abs=1e-5)


@pytest.mark.parametrize("data", ["table", "sequences", "streamed table", "streamed sequences"])
@pytest.mark.parametrize("most", [2, 4, 6])
def test_batches_are_the_same_with_any_number_of_ranks(tmp_path: Path, data: str, most: int) -> None:
    """Also in their order, as far as ranks divide those that there may be; rows are told by their first number."""
    stores(tmp_path)

    def batches(ranks: int) -> list[torch.Tensor]:
        worlds = [World(rank, ranks, most=most) for rank in range(ranks)]
        epochs = [data_of(data, tmp_path).epoch(torch.Generator().manual_seed(5), 64, world) for world in worlds]
        dealt = zip(*([batch.inputs.numeric_BF[:, 0] for batch in epoch] for epoch in epochs), strict=True)
        return [torch.cat(list(parts)).sort().values for parts in dealt]

    whole = batches(most)
    for ranks in range(1, most):
        assert all(torch.equal(one, other) for one, other in zip(batches(ranks), whole, strict=True))

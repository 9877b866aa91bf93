"""Two gloo ranks with half of each batch are one rank with the whole batch, for every balancing method."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest_train import ROWS, learnable, order

from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import World, fit
from mtlsearch.train.checkpoint import load_last

BALANCING: dict[str, dict[str, Any]] = {
    "uniform": {"kind": "uniform"},
    "maml_first_order": {"kind": "maml_mtl", "inner_lr": 0.05},
    "maml_second_order": {"kind": "maml_mtl", "inner_lr": 0.05, "order": 2},
    "maml_split": {"kind": "maml_mtl", "inner_lr": 0.05, "order": 2, "inner_fraction": 0.75, "inner_steps": 2},
}
ODD = ROWS | {"train": 500, "validation": 253}
"""Rows that neither two ranks nor batches of 64 divide."""

RANK = """
import json, sys
from pathlib import Path
import torch
from conftest_train import learnable, order
from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import World, fit
rank, port, root = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
world = World.join(rank, 2, f"tcp://127.0.0.1:{port}", torch.device("cpu"), 60.0)
for name, balancing, rows in json.load(open(sys.argv[4])):
    torch.manual_seed(1000 * rank + 7)  # ranks come with different global generators
    trial = order(epochs=2, balancing=balancing, model={"kind": "mmoeex", "hidden": 16, "num_experts": 4})
    list(fit(trial, learnable(rows), ExperimentFolder(root / name).trial(3), world))
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains every method on two processes; the folder of their checkpoints."""
    root = tmp_path_factory.mktemp("two_ranks")
    jobs = [[name, balancing, ODD] for name, balancing in BALANCING.items()]
    (root / "jobs.json").write_text(json.dumps(jobs))
    for name in BALANCING:
        ExperimentFolder(root / name).trial(3).begin(order())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), port, str(root), str(root / "jobs.json")], cwd=Path(__file__).parent)
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BALANCING))
def test_two_ranks_are_one_rank_on_the_joint_batch(two_ranks: Path, tmp_path: Path, name: str) -> None:
    alone = ExperimentFolder(tmp_path).trial(3)
    trial = order(epochs=2, balancing=BALANCING[name], model={"kind": "mmoeex", "hidden": 16, "num_experts": 4})
    alone.begin(trial)
    expected = [each for each in fit(trial, learnable(ODD), alone, World()) if each is not None]
    together = ExperimentFolder(two_ranks / name).trial(3)
    ends = [load_last(folder, torch.device("cpu")) for folder in (alone, together)]
    for parameter, value in ends[0].model.items():  # type: ignore[union-attr]
        assert torch.allclose(value.float(), ends[1].model[parameter].float(), rtol=0, atol=1e-6), parameter  # type: ignore[union-attr]
    for ours, theirs in zip(expected, together.epochs(), strict=True):
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-5)
        assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-5)


def test_rows_dealt_to_ranks_come_back_in_their_order() -> None:
    """Rank r of W holds the rows r, r + W, …; one rank holds them all."""
    rows = torch.arange(10.0)[:, None]
    assert torch.equal(World().gather_rows(rows, 10), rows)


def test_batches_are_dealt_whole_over_the_ranks() -> None:
    split, order_n = learnable(ODD).splits["train"], torch.arange(500)
    whole = list(split.batches(order_n, 64, World()))
    dealt = [list(split.batches(order_n, 64, World(rank, 3))) for rank in range(3)]
    assert [len(batches) for batches in dealt] == [len(whole)] * 3
    for index, batch in enumerate(whole):
        together = torch.cat([dealt[rank][index].labels_BK for rank in range(3)])
        assert torch.equal(together.sort(dim=0).values, batch.labels_BK.sort(dim=0).values)


def test_a_last_batch_with_fewer_rows_than_ranks_is_left_out_by_all_of_them() -> None:
    split, order_n = learnable(ODD).splits["train"], torch.arange(66)
    dealt = [list(split.batches(order_n, 64, World(rank, 3))) for rank in range(3)]
    assert [len(batches) for batches in dealt] == [1, 1, 1]

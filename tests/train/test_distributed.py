"""Two gloo ranks with half of each batch are one rank with the whole batch, for every balancing method, and for every
architecture that has a say in training."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
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
    measured,
    order,
    places,
    same_weights,
    schema,
    sequence_splits,
    store_of,
    table_splits,
    trained,
)
from toy_balancing import BALANCING as METHODS

from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialOrder
from mtlsearch.train import World

BALANCING: dict[str, dict[str, Any]] = {
    **{param.id: param.values[0].model_dump() for param in METHODS},
    "maml_mtl first order": {"kind": "maml_mtl", "inner_lr": 0.05},
    "maml_mtl second order, long step": {"kind": "maml_mtl", "inner_lr": 0.05, "order": 2},
    "maml_mtl split": {"kind": "maml_mtl", "inner_lr": 0.05, "order": 2, "inner_fraction": 0.75, "inner_steps": 2},
}
MODELS: dict[str, dict[str, Any]] = {
    "soft_sharing": {"kind": "soft_sharing", "strength": 0.1},
    "sluice": {"kind": "sluice", "orthogonality": 0.1},
    "adashare": {"kind": "adashare", "num_blocks": 2, "warm_up": 0.0},
    "man_moe": {"kind": "man_moe", "domain": "kind", "adversarial": 0.5, "gate_supervision": 0.5},
    "jmt": {"kind": "jmt", "successive": 0.1},
    "deep_relation": {"kind": "shared_bottom", "regularizer": {"kind": "deep_relation", "strength": 0.01}},
    "cross_stitch": {"kind": "cross_stitch"},
}
TRIALS: dict[str, dict[str, Any]] = {
    **{name: {"balancing": balancing} for name, balancing in BALANCING.items()},
    **{name: {"model": model | {"hidden": 16}} for name, model in MODELS.items()},
    "one task a batch": {"sampling": {"kind": "proportional", "tau": 0.5}},
    "rare classes": {"sampling": {"kind": "stratified", "share": 0.3}},
    "by reward": {"sampling": {"kind": "autosem"}},
    "man_moe split": {
        "model": MODELS["man_moe"] | {"hidden": 16},
        "balancing": {"kind": "maml_mtl", "inner_lr": 0.05, "inner_fraction": 0.75},
    },
}
HERE = Path(__file__).parent
ODD = ROWS | {"train": 500, "validation": 1021}
"""Rows that neither two ranks nor batches of 64 divide. Scores differ by a rounding, so two that are nearly equal may
change places, which an AUROC counts whole: of so many rows, one pair counts less than what is compared."""

DATA = {"table": learnable, "sequences": learnable_sequences}


def trial_of(kind: str, changes: dict[str, Any]) -> TrialOrder:
    """Two epochs; of DWA, whose weights are 1 in the first two, four."""
    tasks = TASKS if kind == "table" else SEQUENCE_TASKS
    model = {"kind": "mmoeex", "hidden": 16, "num_experts": 4 if kind == "table" else 8}
    balancing = changes.get("balancing", {}).get("kind")
    if balancing == "manual":
        changes = changes | {"balancing": {"kind": "manual", "weights": {tasks[0].name: 2.0}}}
    return order(epochs=4 if balancing == "dwa" else 2, tasks=tasks, **({"model": model} | changes))


RANK = """
import json, sys
from pathlib import Path
import torch
from conftest_train import trained
from test_distributed import DATA, ODD, TRIALS, trial_of
from mtlsearch.data import Store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import TensorData, World
rank, port, root = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
torch.set_num_threads(1)
world = World.join(rank, 2, f"tcp://127.0.0.1:{port}", torch.device("cpu"), 60.0)
for name, changes, kind, rows in json.load(open(sys.argv[4])):
    torch.manual_seed(1000 * rank + 7)  # ranks come with different global generators
    trained(trial_of(kind, changes), DATA[kind](rows), ExperimentFolder(root / name).trial(3), world)
for kind in DATA:
    data = TensorData.load(Store.open(root / "stores" / kind), world.device, "stream", window_bytes=8_000)
    trained(trial_of(kind, {}), data, ExperimentFolder(root / "streamed" / kind).trial(3), world)
    taken_up = ExperimentFolder(root / "taken up" / kind).trial(3)
    for epochs in (1, None):
        trained(trial_of(kind, TRIALS["uniform"]), DATA[kind](ODD), taken_up, world, epochs=epochs)
assert (world.gather(torch.full((3 - 2 * rank, 2), float(rank))) is None) == (rank > 0)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains every method on two processes; the folder of their checkpoints."""
    root = tmp_path_factory.mktemp("two_ranks")
    jobs = [[f"{kind}/{name}", changes, kind, ODD] for kind in DATA for name, changes in TRIALS.items()]
    (root / "jobs.json").write_text(json.dumps(jobs))
    splits = {"table": table_splits(ODD), "sequences": sequence_splits(ODD)}
    for kind, tasks in (("table", TASKS), ("sequences", SEQUENCE_TASKS)):
        store_of(root / "stores" / kind, schema(tasks), splits[kind])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), port, str(root), str(root / "jobs.json")],
            cwd=HERE,
            env=os.environ | {"PYTHONPATH": str(HERE.parent)},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DATA))
@pytest.mark.parametrize("name", list(TRIALS))
def test_two_ranks_are_one_rank_on_the_joint_batch(two_ranks: Path, tmp_path: Path, kind: str, name: str) -> None:
    alone = ExperimentFolder(tmp_path).trial(3)
    trial = trial_of(kind, TRIALS[name])
    expected = trained(trial, DATA[kind](ODD), alone)
    together = ExperimentFolder(two_ranks / kind / name).trial(3)
    ours, theirs = last_state(alone).model, last_state(together).model
    for parameter, value in ours.items():
        assert torch.allclose(value.float(), theirs[parameter].float(), rtol=0, atol=1e-6), parameter
    for one, two in zip(expected, together.epochs(), strict=True):
        assert one.objective == pytest.approx(two.objective, abs=1e-5)
        assert one.train_loss == pytest.approx(two.train_loss, abs=1e-5)
        assert one.task_weights == pytest.approx(two.task_weights, abs=1e-5)
        assert one.penalties == pytest.approx(two.penalties, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DATA))
def test_a_trial_of_two_ranks_is_taken_up_though_only_the_first_sees_its_files(two_ranks: Path, kind: str) -> None:
    """The other hears from it what to go on from; to the last bit it is the undisturbed trial."""
    undisturbed = ExperimentFolder(two_ranks / kind / "uniform").trial(3)
    taken_up = ExperimentFolder(two_ranks / "taken up" / kind).trial(3)
    assert {place.generation for place in places(taken_up)} == {2}
    assert measured(taken_up.epochs()) == measured(undisturbed.epochs())
    assert same_weights(last_state(taken_up), last_state(undisturbed))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DATA))
def test_dwa_was_compared_where_its_weights_are_no_longer_1(two_ranks: Path, kind: str) -> None:
    weights_K = last_state(ExperimentFolder(two_ranks / kind / "dwa").trial(3)).balancer["weights_K"]
    assert (weights_K - 1).abs().max() > 1e-3  # a hundred times what is compared
    assert weights_K.sum() == pytest.approx(len(weights_K))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(DATA))
def test_two_ranks_stream_what_one_rank_has_in_memory(two_ranks: Path, kind: str) -> None:
    """Their batches are others, so the scores are near, not equal."""
    streamed = ExperimentFolder(two_ranks / "streamed" / kind).trial(3).epochs()
    whole = ExperimentFolder(two_ranks / kind / "uniform").trial(3).epochs()
    assert [each.epoch for each in streamed] == [1, 2]
    assert streamed[-1].objective == pytest.approx(whole[-1].objective, abs=0.1)


def test_one_rank_has_all_rows() -> None:
    rows = torch.arange(10.0)[:, None]
    assert World().gather(rows) is rows

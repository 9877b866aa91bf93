"""Several processes on one GPU: none takes more than its share, and the ranks of a trial may be on the same one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest_train import TASKS, last_state, learnable, order, schema, store_of, table_splits, trained

from mtlsearch.config import MMoEConfig
from mtlsearch.data import Store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.models import Inputs, InputSpec, build_model
from mtlsearch.records import TrialOrder
from mtlsearch.train import TensorData, World

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HERE = Path(__file__).parent
GREEDY = """
import sys, torch
from mtlsearch.train.memory import fraction_of, is_out_of_memory, limit_to_share
device = torch.device("cuda", 0)
limit_to_share(device, 0.25)
room = int(fraction_of(0.25, torch.cuda.get_device_properties(device).total_memory)
    * torch.cuda.get_device_properties(device).total_memory)
kept = torch.zeros(room // 10 * 9, dtype=torch.uint8, device=device)
try:
    torch.zeros(room // 10 * 2, dtype=torch.uint8, device=device)
except torch.OutOfMemoryError as error:
    print("refused", is_out_of_memory(error), flush=True)
sys.stdin.readline()  # the memory is kept until the other process has its own
print(int(kept[-1]))
"""
RANK = """
import sys
from pathlib import Path
import torch
from test_gpu_sharing import TRIAL, data_of
from conftest_train import trained
from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import World
rank, port, root = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
device = torch.device("cuda", 0)
world = World.join(rank, 2, f"tcp://127.0.0.1:{port}", device, 60.0, shares_gpu=True)
trained(TRIAL, data_of(root, device), ExperimentFolder(root / "shared").trial(3), world)
assert world.least(torch.tensor([float(rank)], device=device)).item() == 0
torch.distributed.destroy_process_group()
"""
TRIAL: TrialOrder = order(epochs=2, tasks=TASKS)


def data_of(root: Path, device: torch.device) -> TensorData:
    return TensorData.load(Store.open(root / "store"), device)


def test_two_processes_have_a_quarter_of_a_gpu_each_and_no_more() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", GREEDY], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [each.stdout.readline() for each in both] == ["refused True\n"] * 2
    assert [each.communicate("go on\n", timeout=60)[0] for each in both] == ["0\n"] * 2


def test_two_ranks_on_one_gpu_train_as_one_rank(tmp_path: Path) -> None:
    store_of(tmp_path / "store", schema(TASKS), table_splits())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), port, str(tmp_path)], cwd=HERE, env=environment) for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    device = torch.device("cuda", 0)
    alone = ExperimentFolder(tmp_path / "alone").trial(3)
    trained(TRIAL, data_of(tmp_path, device), alone, World(device=device))
    found = last_state(ExperimentFolder(tmp_path / "shared").trial(3))
    for name, value in last_state(alone).model.items():
        torch.testing.assert_close(found.model[name], value, rtol=0, atol=1e-4)


def test_a_batch_in_chunks_needs_less_of_a_gpu() -> None:
    device, most = torch.device("cuda", 0), []
    inputs = Inputs(torch.randn(1 << 16, 8, device=device), torch.zeros(1 << 16, 0, dtype=torch.int64, device=device))
    gradients = []
    for chunks in (1, 4):
        model = build_model(MMoEConfig(hidden=64), InputSpec(8, ()), TASKS, seed=0).to(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        World(device=device, chunks=chunks).wrap(model)(inputs).outputs_PO.square().mean().backward()
        most.append(torch.cuda.max_memory_allocated(device) - before)
        gradients.append([p.grad for p in model.parameters()])
    assert most[1] < 0.5 * most[0]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


def test_dropout_of_a_chunk_that_is_run_again_is_the_same_on_a_gpu() -> None:
    """Of squares of outputs that dropout draws, gradients under other draws would be others."""
    device = torch.device("cuda", 0)
    data = learnable()
    rows = next(data.ordered("train", 64, World())).inputs
    inputs = Inputs(rows.numeric_BF.to(device), rows.categorical_BC.to(device))
    found = []
    for chunks in (1, 2):
        model = build_model(MMoEConfig(hidden=16, dropout=0.5), data.input_spec, TASKS, seed=0).to(device)
        torch.cuda.manual_seed(3)
        wrapped = World(device=device, chunks=chunks).wrap(model)
        halves = [Inputs(*(t[half] for t in inputs[:2])) for half in (slice(32), slice(32, 64))]
        parts = [inputs] if chunks == 2 else halves
        torch.cat([wrapped(part).outputs_PO for part in parts]).square().sum().backward()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)

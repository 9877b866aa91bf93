"""On a GPU the same training gives the same scores, up to its arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest_train import SEQUENCE_TASKS, TASKS, order, schema, sequence_splits, store_of, table_splits, trained
from toy_models import ARCHITECTURES, SEQUENCES, small, some_inputs, steps_of, tasks

from mtlsearch.config import Architecture, ExpertConfig
from mtlsearch.config.model.experts import Expert
from mtlsearch.data import Store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.models import Epoch, Inputs, begin_epoch, build_model
from mtlsearch.models.inputs import StepInputs
from mtlsearch.train import TensorData, World

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(params=["table", "sequences"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Either kind of rows."""
    if request.param == "table":
        return store_of(tmp_path / "store", schema(TASKS), table_splits())
    return store_of(tmp_path / "store", schema(SEQUENCE_TASKS), sequence_splits())


@pytest.mark.parametrize("balancing", [{"kind": "uniform"}, {"kind": "maml_mtl", "inner_lr": 0.01, "order": 2}])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_gpu_trains_what_a_cpu_trains(store: Store, tmp_path: Path, balancing: dict[str, Any], amp: str) -> None:
    trial, ends = order(epochs=4, tasks=store.schema.tasks, balancing=balancing, amp=amp), []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        folder = ExperimentFolder(tmp_path / device.type).trial(3)
        *_, last = trained(trial, TensorData.load(store, device), folder, World(device=device))
        ends.append(last.objective)
    assert ends[0] == pytest.approx(ends[1], abs=0.02)


def test_windows_that_go_to_the_gpu_hold_every_row_once(store: Store) -> None:
    """Pinned buffers are filled again only when the copy out of them has ended."""
    device, seen = torch.device("cuda", 0), []
    data = TensorData.load(store, device, "stream", window_bytes=4_000)
    for batch in data.epoch(torch.Generator(), 64, World(device=device)):
        seen += batch.inputs.numeric_BF[:, 0].tolist()
    assert sorted(seen) == sorted(store.split("train").numeric_NF[:, 0].tolist())


def test_what_does_not_fit_on_the_gpu_is_streamed(store: Store) -> None:
    device = torch.device("cuda", 0)
    assert TensorData.load(store, device).description.endswith("on cuda:0")
    assert TensorData.load(store, device, gpu_share=1e-9).description.startswith("streamed: ")


@pytest.mark.parametrize("expert", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("balancing", [{"kind": "uniform"}, {"kind": "maml_mtl", "inner_lr": 0.01, "order": 2}])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_recurrent_experts_train_on_a_gpu_as_on_a_cpu(
    tmp_path: Path, expert: str, balancing: dict[str, Any], num_layers: int
) -> None:
    """With second gradients, which cuDNN's networks lack, and without cuDNN's warning of scattered weights."""
    store = store_of(tmp_path / "store", schema(SEQUENCE_TASKS), sequence_splits())
    model = {"kind": "mmoe", "hidden": 16, "expert": {"kind": expert, "num_layers": num_layers}}
    trial, ends = order(epochs=3, tasks=SEQUENCE_TASKS, model=model, balancing=balancing), []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        folder = ExperimentFolder(tmp_path / device.type).trial(3)
        *_, last = trained(trial, TensorData.load(store, device), folder, World(device=device))
        ends.append(last.objective)
    assert ends[0] == pytest.approx(ends[1], abs=0.02)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("expert", [expert() for expert in get_args(get_args(ExpertConfig)[0])], ids=lambda e: e.kind)
def test_every_architecture_gives_on_a_gpu_what_it_gives_on_a_cpu(kind: type[Architecture], expert: Expert) -> None:
    """Outputs, penalties and gradients; of an expert that an architecture has no use for, the same again."""
    ends: list[list[torch.Tensor]] = []
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        model = build_model(small(kind, expert=expert), SEQUENCES, tasks(1, 3), seed=0).eval().to(device)
        begin_epoch(model, Epoch(1, 1, seed=0))
        inputs = some_inputs(SEQUENCES, 16)
        moved = [tensor.to(device) for tensor in (*inputs[:2], *steps_of(inputs))]
        outputs_PO, penalties = model.penalised(Inputs(*moved[:2], StepInputs(*moved[2:])))
        total = outputs_PO.square().sum() + sum(value.mean() for value in penalties.values())
        gradients = torch.autograd.grad(total, list(model.parameters()))
        ends.append([tensor.cpu() for tensor in (outputs_PO, *penalties.values(), *gradients)])
    for on_cpu, on_gpu in zip(*ends, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)

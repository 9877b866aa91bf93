"""On a GPU the same training gives the same scores, up to its arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest_train import SEQUENCE_TASKS, TASKS, order, schema, sequence_splits, store_of, table_splits

from mtlsearch.data import Store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import TensorData, World, fit

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
        folder.begin(trial)
        *_, last = fit(trial, TensorData.load(store, device), folder, World(device=device))
        assert last is not None
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
        folder.begin(trial)
        *_, last = fit(trial, TensorData.load(store, device), folder, World(device=device))
        assert last is not None
        ends.append(last.objective)
    assert ends[0] == pytest.approx(ends[1], abs=0.02)

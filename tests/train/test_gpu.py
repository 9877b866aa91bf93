"""On a GPU the same training gives the same scores, up to its arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest_train import learnable, order

from mtlsearch.folder import ExperimentFolder
from mtlsearch.train import TensorData, World, fit
from mtlsearch.train.tensors import TensorSplit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(data: TensorData) -> Any:
    """The data set, moved."""
    moved = {
        name: TensorSplit(type(s.inputs)(*(t.cuda() for t in s.inputs)), s.labels_NK.cuda(), s.present_NK.cuda())
        for name, s in data.splits.items()
    }
    return type(data)(data.schema, data.tasks, data.mean_K, data.std_K, moved)  # type: ignore[arg-type]


@pytest.mark.parametrize("balancing", [{"kind": "uniform"}, {"kind": "maml_mtl", "inner_lr": 0.01, "order": 2}])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_gpu_trains_what_a_cpu_trains(tmp_path: Path, balancing: dict[str, Any], amp: str) -> None:
    trial, ends = order(epochs=4, balancing=balancing, amp=amp), []
    for device in ("cpu", "cuda"):
        folder = ExperimentFolder(tmp_path / device).trial(3)
        folder.begin(trial)
        data = on_gpu(learnable()) if device == "cuda" else learnable()
        *_, last = fit(trial, data, folder, World(device=torch.device(device)))
        assert last is not None
        ends.append(last.objective)
    assert ends[0] == pytest.approx(ends[1], abs=0.02)

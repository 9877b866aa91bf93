"""What the tests of training share, also with processes that they start."""

from __future__ import annotations

from typing import Any

import torch

from mtlsearch.config import Task, TrialConfig
from mtlsearch.data import DataSchema
from mtlsearch.models import Inputs
from mtlsearch.records import TrialOrder
from mtlsearch.train import TensorData
from mtlsearch.train.tensors import TensorSplit

TASKS = (
    Task(name="late", kind="binary"),
    Task(name="delay", kind="regression", unit="minutes"),
    Task(name="gone", kind="binary"),
)
ROWS = {"train": 512, "validation": 256, "test": 256}
MEAN, STD = (0.0, 40.0, 0.0), (1.0, 15.0, 1.0)


def learnable(rows: dict[str, int] = ROWS) -> TensorData:
    """Labels that follow the inputs, some of them missing; the same every time."""
    generator = torch.Generator().manual_seed(11)
    schema = DataSchema(
        source="toy",
        data_digest="toy",
        tasks=TASKS,
        numeric=(),
        categorical=(),
        label_mean=MEAN,
        label_std=STD,
        splits=(),
    )
    splits = {name: _split(count, generator) for name, count in rows.items()}
    return Toy(schema, TASKS, torch.tensor(MEAN), torch.tensor(STD), splits)  # type: ignore[arg-type]


class Toy(TensorData):
    """Five numbers and one category of four a row."""

    @property
    def input_spec(self) -> Any:
        """What `learnable` makes."""
        from mtlsearch.models import InputSpec

        return InputSpec(5, (4,))

    def only(self, names: Any) -> TensorData:
        """The same rows with some tasks' labels."""
        chosen = super().only(names)
        return Toy(chosen.schema, chosen.tasks, chosen.mean_K, chosen.std_K, chosen.splits)


def _split(count: int, generator: torch.Generator) -> TensorSplit:
    numeric_NF = torch.randn(count, 5, generator=generator)
    categorical_NC = torch.randint(0, 4, (count, 1), generator=generator, dtype=torch.int32)
    late_N = (numeric_NF[:, 0] + 0.3 * torch.randn(count, generator=generator) > 0).float()
    delay_N = numeric_NF[:, 1] + 0.5 * (categorical_NC[:, 0] == 2) + 0.1 * torch.randn(count, generator=generator)
    gone_N = ((numeric_NF[:, 2] > 0.5) | (categorical_NC[:, 0] == 1)).float()
    labels_NK = torch.stack([late_N, delay_N, gone_N], dim=1)
    present_NK = (torch.rand(count, 3, generator=generator) > 0.25).float()
    return TensorSplit(Inputs(numeric_NF, categorical_NC), labels_NK * present_NK, present_NK)


def order(epochs: int = 3, **config: Any) -> TrialOrder:
    """An order to train on `learnable`; `config` changes fields of the trial's configuration."""
    fields: dict[str, Any] = {"model": {"kind": "mmoe", "hidden": 16}, "batch_size": 64, "optimizer": {"kind": "adamw"}}
    return TrialOrder(
        number=3,
        role="trial",
        config=TrialConfig.model_validate(fields | config),
        seed=17,
        epochs=epochs,
        tasks=tuple(task.name for task in TASKS),
        metric="mean",
    )

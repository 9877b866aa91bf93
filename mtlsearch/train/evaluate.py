"""Predictions on a split, and their scores.

Axes: N rows, B batch, K tasks, O outputs (one a task).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtlsearch.data.columns import SplitName
from mtlsearch.models import MultiTaskModel
from mtlsearch.records import Scores
from mtlsearch.train.distributed import World
from mtlsearch.train.metrics import score_tasks
from mtlsearch.train.tensors import TensorData, TensorSplit

EVALUATION_BATCH = 8192
"""Rows a forward pass without gradients; large, since nothing is kept for a backward pass."""


def evaluate(model: MultiTaskModel, data: TensorData, split: SplitName, world: World) -> Scores | None:
    """The split's scores on rank 0, None on other ranks. Every rank predicts its share of the rows."""
    rows = data.splits[split]
    outputs_NO = world.gather_rows(predict(model, rows, world), rows.num_rows)
    if not world.is_main:
        return None
    mean_K, std_K = data.mean_K.to(world.device).double(), data.std_K.to(world.device).double()
    predictions_NK = outputs_NO.double() * std_K + mean_K  # binary tasks have mean 0 and deviation 1
    labels_NK = rows.labels_NK.double() * std_K + mean_K
    return score_tasks(data.tasks, predictions_NK, torch.where(rows.present_NK > 0, labels_NK, torch.nan))


@torch.no_grad()
def predict(model: MultiTaskModel, split: TensorSplit, world: World) -> Tensor:
    """outputs_NO of this rank's rows: rank, rank + size, … of the split."""
    was_training = model.training
    model.eval()
    order_N = torch.arange(split.num_rows, device=world.device)[world.rank :: world.size]
    outputs = [model(split.take(rows_B).inputs).float() for rows_B in torch.split(order_N, EVALUATION_BATCH)]
    model.train(was_training)
    return torch.cat(outputs)

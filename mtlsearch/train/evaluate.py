"""Predictions on a split, and their scores.

Axes: P predictions, L label columns, O outputs.
"""

from __future__ import annotations

from contextlib import closing

import torch
from torch import Tensor

from mtlsearch.data.columns import SplitName
from mtlsearch.models import MultiTaskModel
from mtlsearch.records import Scores
from mtlsearch.train.chunks import split
from mtlsearch.train.distributed import World
from mtlsearch.train.metrics import score_tasks
from mtlsearch.train.tensors import TensorData

EVALUATION_BATCH = 8192
"""Rows a forward pass without gradients, in `World.chunks` parts; large, since nothing is kept for a backward pass."""


def evaluate(model: MultiTaskModel, data: TensorData, name: SplitName, world: World) -> Scores | None:
    """The split's scores on rank 0, None on other ranks. Every rank predicts its share of the rows."""
    outputs_PO, labels_PL = (world.gather(rows) for rows in predict(model, data, name, world))
    if outputs_PO is None or labels_PL is None:
        return None
    return score_tasks(data.tasks, *data.targets.unscaled(outputs_PO, labels_PL))


@torch.no_grad()
def predict(model: MultiTaskModel, data: TensorData, name: SplitName, world: World) -> tuple[Tensor, Tensor]:
    """outputs_PO and labels_PL, scaled, of this rank's share of the split."""
    was_training = model.training
    model.eval()
    outputs = [torch.empty(0, sum(data.widths), device=world.device)]  # a rank may have no row
    labels = [torch.empty(0, len(data.targets.columns), device=world.device)]
    with closing(data.ordered(name, EVALUATION_BATCH, world)) as batches:
        for batch in batches:
            outputs += [model(inputs).float() for inputs in split(batch.inputs, world.chunks)]
            labels.append(batch.labels_PL)
    model.train(was_training)
    return torch.cat(outputs), torch.cat(labels)

"""The test split, scored once a trial, from the weights of its best validation epoch."""

from __future__ import annotations

from mtlsearch.errors import TrialFailed
from mtlsearch.models import build_model
from mtlsearch.records import Scores, TrialOrder
from mtlsearch.train.checkpoint import Checkpoints
from mtlsearch.train.distributed import World
from mtlsearch.train.evaluate import evaluate
from mtlsearch.train.tensors import TensorData


def score_test(order: TrialOrder, data: TensorData, checkpoints: Checkpoints, world: World) -> Scores:
    """Task → metric → value on the test split.

    Raises:
        TrialFailed: the trial kept no weights.
    """
    state = checkpoints.best(world.device)
    if state is None:
        raise TrialFailed(f"trial {order.number} kept no weights")
    model = build_model(order.config.model, data.input_spec, data.tasks, order.seed).to(world.device)
    model.load_state_dict(state.model)
    scores = evaluate(model, data, "test", world)
    assert scores is not None, "the test split is scored by one rank"
    return scores

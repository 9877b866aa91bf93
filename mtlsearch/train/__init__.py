"""Training one trial: a generator of epochs that reports to nobody. Whoever pulls may stop pulling."""

from mtlsearch.train.checkpoint import Checkpoints
from mtlsearch.train.distributed import World
from mtlsearch.train.held_out import score_test
from mtlsearch.train.loop import fit
from mtlsearch.train.tensors import TensorData
from mtlsearch.train.watch import Watch

__all__ = ["Checkpoints", "TensorData", "Watch", "World", "fit", "score_test"]

"""How well scores rank positives before negatives: both metrics from one sorting.

AUROC by Hanley and McNeil, 10.1148/radiology.143.1.7063747: the chance that a positive is above a negative, ties
half. Average precision is the sum of precisions at each distinct score, each times the recall that it adds; nothing
is interpolated.

Axes: N rows, D distinct scores, falling.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Ranking(NamedTuple):
    """Undefined (NaN) without a positive or without a negative."""

    auroc: float
    average_precision: float


def rank(scores_N: Tensor, positive_N: Tensor) -> Ranking:
    """Scores of any unit, higher for what is more likely positive; positives are 1, negatives 0."""
    if len(scores_N) == 0:
        return Ranking(math.nan, math.nan)
    order_N = falling(scores_N)
    scores_N = scores_N[order_N]
    last_N = torch.ones(len(scores_N), dtype=torch.bool, device=scores_N.device)
    last_N[:-1] = scores_N[1:] != scores_N[:-1]
    found_D = positive_N[order_N].double().cumsum(0)[last_N]
    taken_D = last_N.nonzero().squeeze(1).double() + 1
    positives, negatives = found_D[-1], taken_D[-1] - found_D[-1]
    gain_D = found_D.diff(prepend=found_D.new_zeros(1))
    false_D = (taken_D - found_D).diff(prepend=found_D.new_zeros(1))
    pairs = (false_D * (found_D - gain_D / 2)).sum()
    average_precision = torch.where(negatives > 0, (gain_D / positives * found_D / taken_D).sum(), torch.nan)
    auroc, average_precision = torch.stack([pairs / (positives * negatives), average_precision]).tolist()
    return Ranking(auroc, average_precision)


def falling(scores_N: Tensor) -> Tensor:
    """The order from the highest score down. On a CPU NumPy sorts several times faster than torch."""
    if scores_N.device.type != "cpu":
        return scores_N.argsort(descending=True)
    return torch.from_numpy(np.argsort(scores_N.numpy())).flip(0)

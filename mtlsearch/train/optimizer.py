"""One table: optimiser config → torch optimiser, and the learning rate of each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import assert_never

import torch
from torch import nn
from torch.optim import Optimizer

from mtlsearch.config import AdamConfig, AdamWConfig, OptimizerConfig, SgdConfig


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimiser; fused, so one call a step whatever the number of tensors."""
    match config:
        case AdamWConfig():
            return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
        case AdamConfig():
            return torch.optim.Adam(parameters, config.lr, weight_decay=config.weight_decay, fused=True)
        case SgdConfig():
            return torch.optim.SGD(
                parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
            )
        case _:
            assert_never(config)


def learning_rate(config: OptimizerConfig, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch (counted from 1) of a trial of `epochs` epochs."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))

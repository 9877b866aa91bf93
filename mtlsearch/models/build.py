"""The table of architectures: a config without its model fails type-checking here."""

from __future__ import annotations

from typing import assert_never

import torch

from mtlsearch.config import (
    ArchitectureConfig,
    MMoEConfig,
    MMoEExConfig,
    SharedBottomConfig,
    SingleTaskConfig,
)
from mtlsearch.errors import ConfigError
from mtlsearch.models.base import MultiTaskModel
from mtlsearch.models.inputs import InputSpec
from mtlsearch.models.mmoe import MMoE
from mtlsearch.models.mmoeex import MMoEEx
from mtlsearch.models.shared_bottom import SharedBottom
from mtlsearch.models.single_task import SingleTask


def build_model(config: ArchitectureConfig, inputs: InputSpec, widths: tuple[int, ...], seed: int) -> MultiTaskModel:
    """A model whose initial weights depend on `seed` alone; `widths` are the tasks' numbers of outputs.

    A combination that cannot serve so many tasks is a ConfigError.
    """
    if (reason := config.infeasible(len(widths))) is not None:
        raise ConfigError(f"{config.kind}: {reason}")
    generator = torch.Generator().manual_seed(seed)
    match config:
        case SingleTaskConfig():
            return SingleTask(config, inputs, widths, generator)
        case SharedBottomConfig():
            return SharedBottom(config, inputs, widths, generator)
        case MMoEConfig():
            return MMoE(config, inputs, widths, generator)
        case MMoEExConfig():
            return MMoEEx(config, inputs, widths, generator)
        case _:
            assert_never(config)

"""One point of the search space: everything that a trial trains with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtlsearch.config.balancing import BalancingConfig, UniformConfig
from mtlsearch.config.base import Config
from mtlsearch.config.model import ArchitectureConfig
from mtlsearch.config.optimizer import AdamWConfig, OptimizerConfig


class TrialConfig(Config):
    """What `space:` describes the choices for; its fields are the keys that may stand under `space:`."""

    model: ArchitectureConfig
    balancing: BalancingConfig = UniformConfig()
    optimizer: OptimizerConfig = AdamWConfig()
    batch_size: Annotated[int, Field(ge=1)] = 1024
    """Rows a step, over all ranks of the trial together."""

    amp: Literal["off", "bf16"] = "off"
    """`bf16` runs the forward pass under bfloat16 autocast."""

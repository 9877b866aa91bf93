"""The real update's optimiser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtlsearch.config.base import Config, Search


class _Optimizer(Config):
    lr: Annotated[float, Field(gt=0, le=10), Search({"float": [1e-4, 1e-2], "log": True})] = 1e-3
    """Learning rate at the start."""

    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0

    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` anneals the learning rate to 0 over the budget's epochs."""

    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient; longer ones are scaled down to it."""


class AdamWConfig(_Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""

    kind: Literal["adamw"] = "adamw"


class AdamConfig(_Optimizer):
    """Adam (Kingma & Ba, arXiv 1412.6980)."""

    kind: Literal["adam"] = "adam"


class SgdConfig(_Optimizer):
    """Stochastic gradient descent with momentum."""

    kind: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=10), Search({"float": [1e-3, 1.0], "log": True})] = 0.1
    """Learning rate at the start."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9


OptimizerConfig = Annotated[AdamWConfig | AdamConfig | SgdConfig, Field(discriminator="kind")]

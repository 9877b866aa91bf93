"""Where results are mirrored to; the experiment's folder is always written."""

from __future__ import annotations

from typing import Literal

from mtlsearch.config.base import Config


class WandbConfig(Config):
    """Weights & Biases: one run a trial, grouped by experiment."""

    project: str = "mtlsearch"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    """`auto`: online when logged in, else offline under DIR/wandb."""


class TrackingConfig(Config):
    """The mirrors of the experiment's folder."""

    wandb: WandbConfig | None = None

"""Which tasks a batch serves, and which rows it is made of: one config per way."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtlsearch.config.base import Config, Search


class JointConfig(Config):
    """All tasks on each batch, every row once an epoch."""

    kind: Literal["joint"] = "joint"


class UniformSamplingConfig(Config):
    """One task a batch, each as often as any other."""

    kind: Literal["uniform"] = "uniform"


class ProportionalConfig(Config):
    """One task a batch, drawn with p ∝ n^tau, n being its labelled training rows."""

    kind: Literal["proportional"] = "proportional"
    tau: Annotated[float, Field(ge=0, le=1), Search({"float": [0.0, 1.0]})] = 1.0
    """1 is proportional to the rows, 0 uniform."""


class StratifiedConfig(Config):
    """All tasks on each batch, in which rows with a rare class have a least share.

    Weights are not changed: what is seen more often counts for more, and predicted probabilities shift with it.
    """

    kind: Literal["stratified"] = "stratified"
    share: Annotated[float, Field(gt=0, lt=1), Search({"float": [0.05, 0.5]})] = 0.2
    """Least share of a batch's rows that have a rare class of a binary or multiclass task, or of a multilabel task's
    label. A class that is rarer than `share` among the training rows with a label is rare. Several rare ones have equal
    parts of the share; one that has as much without it needs no part."""


class AutoSemConfig(Config):
    """One task a batch, by a bandit (AutoSeM, Guo et al., arXiv 1904.04153): did validation improve after the epochs
    that favoured it?"""

    kind: Literal["autosem"] = "autosem"
    decay: Annotated[float, Field(gt=0, le=1), Search({"float": [0.9, 0.999]})] = 0.98
    """What is left of the evidence after an epoch."""

    drop_below: Annotated[float, Field(ge=0, lt=0.5), Search({"float": [0.005, 0.05], "log": True})] = 0.01
    """A task is not trained any more when the probability that it is more useful than the others falls below; 0 keeps
    all."""


class DoReMiConfig(Config):
    """One task a batch, drawn by weights that grow with the loss in excess of a reference (arXiv 2305.10429)."""

    kind: Literal["doremi"] = "doremi"
    eta: Annotated[float, Field(gt=0, le=100)] = 1.0
    """η of w ∝ w·exp(η·excess)."""

    smoothing: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """c of (1 − c)·w + c/K."""

    every: Annotated[int, Field(ge=1)] = 10
    """Steps between two updates of the weights."""


SamplingConfig = Annotated[
    JointConfig | UniformSamplingConfig | ProportionalConfig | StratifiedConfig | AutoSemConfig | DoReMiConfig,
    Field(discriminator="kind"),
]

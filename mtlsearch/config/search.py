"""The objective, the samplers and the pruners."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from mtlsearch.config.base import Config
from mtlsearch.config.model import SingleTaskConfig
from mtlsearch.config.optimizer import AdamWConfig, OptimizerConfig


def _name_is_kind(value: Any) -> Any:
    """`pruner: median` is short for `pruner: {kind: median}`."""
    return {"kind": value} if isinstance(value, str) else value


class BaselineConfig(Config):
    """How the single-task baselines are trained; fixed, since a baseline that moves is none."""

    model: SingleTaskConfig = SingleTaskConfig()
    optimizer: Annotated[
        OptimizerConfig, BeforeValidator(_name_is_kind, json_schema_input_type=OptimizerConfig | str)
    ] = AdamWConfig()
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Left out: the space's, or 1,024 where the space searches it."""


class ObjectiveConfig(Config):
    """What a trial is judged by; always maximised."""

    metric: str = "delta"
    """`delta`: mean relative gain over single-task baselines, which are trained first (arXiv 1904.08918).
    `mean`: mean of the tasks' AUROC (classification) and R² (regression). `task/metric`: that one."""

    baseline: BaselineConfig = BaselineConfig()
    """The single-task networks that `delta` compares with."""


class TpeConfig(Config):
    """Tree-structured Parzen estimator, multivariate and grouped by branch."""

    kind: Literal["tpe"] = "tpe"
    n_startup_trials: Annotated[int, Field(ge=1)] = 10
    """Random trials before the model is used."""


class RandomConfig(Config):
    """Independent draws."""

    kind: Literal["random"] = "random"


class GridConfig(Config):
    """Every combination once; needs choices, ints or stepped floats."""

    kind: Literal["grid"] = "grid"


class QmcConfig(Config):
    """A scrambled Sobol sequence over the whole space."""

    kind: Literal["qmc"] = "qmc"


class CmaEsConfig(Config):
    """CMA-ES on the numbers that every configuration has; the rest is drawn at random."""

    kind: Literal["cmaes"] = "cmaes"
    n_startup_trials: Annotated[int, Field(ge=1)] = 5


class GpConfig(Config):
    """Gaussian process on the parameters that every configuration has; the rest is drawn at random."""

    kind: Literal["gp"] = "gp"
    n_startup_trials: Annotated[int, Field(ge=1)] = 10


SamplerConfig = Annotated[
    TpeConfig | RandomConfig | GridConfig | QmcConfig | CmaEsConfig | GpConfig, Field(discriminator="kind")
]


class NonePrunerConfig(Config):
    """Every trial trains all its epochs."""

    kind: Literal["none"] = "none"


class MedianConfig(Config):
    """Stops a trial that is below the median of the earlier ones at the same epoch."""

    kind: Literal["median"] = "median"
    n_startup_trials: Annotated[int, Field(ge=0)] = 5
    n_warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before a trial can be stopped."""


class PercentileConfig(Config):
    """Stops a trial outside the best `percentile` percent at the same epoch."""

    kind: Literal["percentile"] = "percentile"
    percentile: Annotated[float, Field(gt=0, lt=100)] = 25.0
    n_startup_trials: Annotated[int, Field(ge=0)] = 5
    n_warmup_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs before a trial can be stopped."""


class HyperbandConfig(Config):
    """Successive halving at several rates at once (arXiv 1603.06560)."""

    kind: Literal["hyperband"] = "hyperband"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs before the first halving."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class SuccessiveHalvingConfig(Config):
    """Asynchronous successive halving, ASHA (arXiv 1810.05934)."""

    kind: Literal["successive_halving"] = "successive_halving"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs before the first halving."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    min_early_stopping_rate: Annotated[int, Field(ge=0)] = 0


class WilcoxonConfig(Config):
    """Signed-rank test of a trial's epochs against the best trial's."""

    kind: Literal["wilcoxon"] = "wilcoxon"
    p_threshold: Annotated[float, Field(ge=0, le=1)] = 0.1
    n_startup_epochs: Annotated[int, Field(ge=0)] = 2


class ThresholdConfig(Config):
    """Stops a trial whose objective leaves [lower, upper]."""

    kind: Literal["threshold"] = "threshold"
    lower: float | None = None
    upper: float | None = None
    n_warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs before a trial can be stopped."""

    @model_validator(mode="after")
    def _has_bounds(self) -> ThresholdConfig:
        if self.lower is None and self.upper is None:
            raise ValueError("it must have `lower` or `upper`, the objective's bounds; found neither")
        return self


_Wrapped = Annotated[
    MedianConfig | PercentileConfig | HyperbandConfig | SuccessiveHalvingConfig | WilcoxonConfig | ThresholdConfig,
    Field(discriminator="kind"),
]


class PatientConfig(Config):
    """Lets another pruner decide only once a trial has not improved for `patience` epochs."""

    kind: Literal["patient"] = "patient"
    patience: Annotated[int, Field(ge=0)] = 2
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    wrapped: Annotated[_Wrapped, BeforeValidator(_name_is_kind, json_schema_input_type=_Wrapped | str)] | None = None
    """The pruner to ask then; without one, the trial is stopped."""


PrunerConfig = Annotated[
    NonePrunerConfig
    | MedianConfig
    | PercentileConfig
    | HyperbandConfig
    | SuccessiveHalvingConfig
    | WilcoxonConfig
    | ThresholdConfig
    | PatientConfig,
    Field(discriminator="kind"),
]


class SearchConfig(Config):
    """Who proposes configurations, who stops them."""

    sampler: Annotated[SamplerConfig, BeforeValidator(_name_is_kind, json_schema_input_type=SamplerConfig | str)] = (
        TpeConfig()
    )
    pruner: Annotated[PrunerConfig, BeforeValidator(_name_is_kind, json_schema_input_type=PrunerConfig | str)] = (
        HyperbandConfig()
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seeds the sampler, and with the trial's number every trial."""
    enqueue: Annotated[tuple[Mapping[str, Any], ...], Field(strict=False)] = ()
    """Configurations to try first, each written like `space:` with fixed values; what is left out is sampled."""
    warm_start: str | None = None
    """The folder of an earlier search, from this file's folder on, or its URI in a storage. Its best trials are tried
    first; where data, tasks, objective and epochs are the same, its ended trials are known to the sampler from the
    start."""
    storage: str | None = None
    """A PostgreSQL database for the study, `postgresql://user@host:5432/name`, so that several drivers can work on it;
    without it, the study is a file in the experiment's folder. A password comes from PGPASSWORD or ~/.pgpass."""

    @field_validator("storage")
    @classmethod
    def storage_is_a_database_without_a_password(cls, storage: str | None) -> str | None:
        if storage is None:
            return None
        if not storage.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("storage must begin with postgresql://, or be left out: the study is a file then.")
        if re.match(r"[\w+]+://[^@]*:[^@]*@|.*[?&]password=", storage):
            raise ValueError(
                "storage must not hold a password, since the space file is copied into the experiment's folder. Take "
                "it out; set PGPASSWORD, or write it into ~/.pgpass."
            )
        return storage

    @model_validator(mode="after")
    def nothing_is_unpickled(self) -> Self:
        if self.storage is not None and self.sampler.kind == "cmaes":
            raise ValueError(
                "sampler: cmaes cannot have a storage: Optuna keeps its state there as a pickle, and a pickle from a "
                "database could be anybody's program. Write `sampler: tpe` or `gp`, or leave storage out."
            )
        return self

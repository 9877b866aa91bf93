"""One table: pruner config → Optuna pruner. A step is an epoch of the trial, counted from 1."""

from __future__ import annotations

from typing import assert_never

import optuna
from optuna.pruners import BasePruner

from mtlsearch.config.search import (
    HyperbandConfig,
    MedianConfig,
    NonePrunerConfig,
    PatientConfig,
    PercentileConfig,
    PrunerConfig,
    SuccessiveHalvingConfig,
    ThresholdConfig,
    WilcoxonConfig,
)
from mtlsearch.search.experimental import used_on_purpose


def build_pruner(config: PrunerConfig, epochs: int) -> BasePruner:
    """The Optuna pruner for trials of at most `epochs` epochs."""
    match config:
        case NonePrunerConfig():
            return optuna.pruners.NopPruner()
        case MedianConfig():
            return optuna.pruners.MedianPruner(config.n_startup_trials, config.n_warmup_epochs)
        case PercentileConfig():
            return optuna.pruners.PercentilePruner(config.percentile, config.n_startup_trials, config.n_warmup_epochs)
        case HyperbandConfig():
            # max_resource is fixed: "auto" would read it off the first trial that completes, whichever that is.
            return optuna.pruners.HyperbandPruner(config.min_epochs, epochs, config.reduction_factor)
        case SuccessiveHalvingConfig():
            return optuna.pruners.SuccessiveHalvingPruner(
                config.min_epochs, config.reduction_factor, config.min_early_stopping_rate
            )
        case WilcoxonConfig():
            with used_on_purpose():
                return optuna.pruners.WilcoxonPruner(
                    p_threshold=config.p_threshold, n_startup_steps=config.n_startup_epochs
                )
        case ThresholdConfig():
            return optuna.pruners.ThresholdPruner(config.lower, config.upper, config.n_warmup_epochs)
        case PatientConfig():
            wrapped = build_pruner(config.wrapped, epochs) if config.wrapped else None
            with used_on_purpose():
                return optuna.pruners.PatientPruner(wrapped, config.patience, config.min_delta)
        case _:
            assert_never(config)

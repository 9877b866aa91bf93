"""Typed, frozen descriptions of everything that a space file can say. No torch, no I/O."""

from mtlsearch.config.balancing import BalancingConfig, MamlMtlConfig, UniformConfig
from mtlsearch.config.base import Config, Search
from mtlsearch.config.budget import BudgetConfig, ResourcesConfig
from mtlsearch.config.data import CensusConfig, DataConfig, FlightsConfig
from mtlsearch.config.model import (
    ArchitectureConfig,
    DenseConfig,
    ExpertConfig,
    MMoEConfig,
    MMoEExConfig,
    SharedBottomConfig,
    SingleTaskConfig,
)
from mtlsearch.config.optimizer import AdamConfig, AdamWConfig, OptimizerConfig, SgdConfig
from mtlsearch.config.search import ObjectiveConfig, SearchConfig
from mtlsearch.config.task import Task, TaskKind
from mtlsearch.config.tracking import TrackingConfig, WandbConfig
from mtlsearch.config.trial import TrialConfig

__all__ = [
    "AdamConfig",
    "AdamWConfig",
    "ArchitectureConfig",
    "BalancingConfig",
    "BudgetConfig",
    "CensusConfig",
    "Config",
    "DataConfig",
    "DenseConfig",
    "ExpertConfig",
    "FlightsConfig",
    "MMoEConfig",
    "MMoEExConfig",
    "MamlMtlConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ResourcesConfig",
    "Search",
    "SearchConfig",
    "SgdConfig",
    "SharedBottomConfig",
    "SingleTaskConfig",
    "Task",
    "TaskKind",
    "TrackingConfig",
    "TrialConfig",
    "UniformConfig",
    "WandbConfig",
]

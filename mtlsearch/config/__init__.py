"""Typed, frozen descriptions of everything that a space file can say. No torch, no I/O."""

from mtlsearch.config.balancing import BalancingConfig, MamlMtlConfig, UniformConfig
from mtlsearch.config.base import Config, Search
from mtlsearch.config.budget import BudgetConfig, ResourcesConfig
from mtlsearch.config.data import (
    CensusConfig,
    DataConfig,
    FlightsConfig,
    Mimic3Config,
    PcbaConfig,
    Physionet2012Config,
    SyntheticMMoEConfig,
)
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.model import (
    ArchitectureConfig,
    DenseConfig,
    ExpertConfig,
    GruConfig,
    LstmConfig,
    MMoEConfig,
    MMoEExConfig,
    RnnConfig,
    SharedBottomConfig,
    SingleTaskConfig,
)
from mtlsearch.config.optimizer import AdamConfig, AdamWConfig, OptimizerConfig, SgdConfig
from mtlsearch.config.search import ObjectiveConfig, SearchConfig
from mtlsearch.config.table import ColumnConfig, FractionsConfig, SequenceConfig, TableConfig, TableTask
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
    "ColumnConfig",
    "Config",
    "DataConfig",
    "DenseConfig",
    "Encoding",
    "ExpertConfig",
    "FlightsConfig",
    "FractionsConfig",
    "GruConfig",
    "LstmConfig",
    "MMoEConfig",
    "MMoEExConfig",
    "MamlMtlConfig",
    "Mimic3Config",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PcbaConfig",
    "Physionet2012Config",
    "ResourcesConfig",
    "RnnConfig",
    "Search",
    "SearchConfig",
    "SequenceConfig",
    "SgdConfig",
    "SharedBottomConfig",
    "SingleTaskConfig",
    "SyntheticMMoEConfig",
    "TableConfig",
    "TableTask",
    "Task",
    "TaskKind",
    "TrackingConfig",
    "TrialConfig",
    "UniformConfig",
    "WandbConfig",
]

"""The sources: one config, one class, one line here. mypy names the config that was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, assert_never

from mtlsearch.config.data import (
    CensusConfig,
    DataConfig,
    FlightsConfig,
    Mimic3Config,
    PcbaConfig,
    Physionet2012Config,
    SyntheticMMoEConfig,
)
from mtlsearch.config.table import TableConfig
from mtlsearch.config.task import Task
from mtlsearch.data.census import Census
from mtlsearch.data.columns import Columns
from mtlsearch.data.flights import Flights
from mtlsearch.data.mimic3 import Mimic3
from mtlsearch.data.pcba import Pcba
from mtlsearch.data.physionet2012 import Physionet2012
from mtlsearch.data.synthetic_mmoe import SyntheticMMoE
from mtlsearch.data.table import Table
from mtlsearch.errors import ConfigError


class Source(Protocol):
    """Files that become columns."""

    @property
    def version(self) -> int:
        """Counts up whenever the same files give other columns, so that old stores are not reused."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task that can be learnt from it, known without reading data."""

    def files(self) -> tuple[Path, ...]:
        """The files that it reads. Raises ConfigError when one is missing."""

    def read(self, tasks: Sequence[Task]) -> Columns:
        """All rows, with the labels of `tasks` in that order. Raises ConfigError when a file does not fit."""


def source_of(config: DataConfig) -> Source:
    """The source that a config describes; reads nothing."""
    match config:
        case FlightsConfig():
            return Flights(config)
        case CensusConfig():
            return Census(config)
        case SyntheticMMoEConfig():
            return SyntheticMMoE(config)
        case Mimic3Config():
            return Mimic3(config)
        case Physionet2012Config():
            return Physionet2012(config)
        case PcbaConfig():
            return Pcba(config)
        case TableConfig():
            return Table(config)
        case _:
            assert_never(config)


def tasks_of(config: DataConfig) -> tuple[Task, ...]:
    """The chosen tasks in the order of the config, or all of them; reads nothing.

    Raises ConfigError for a name that the source does not have, or that is given twice.
    """
    known = {task.name: task for task in source_of(config).tasks}
    chosen = tuple(known) if config.source == "table" or config.tasks is None else config.tasks
    for name in chosen:
        if name not in known:
            raise ConfigError(_unknown_task(name, config.source, tuple(known)))
        if chosen.count(name) > 1:
            raise ConfigError(f"data.tasks: every task is named once, but {name!r} is there twice. Remove one.")
    return tuple(known[name] for name in chosen)


def _unknown_task(name: str, source: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"data.tasks: {source} has no task {name!r}; it has {', '.join(known)}.{hint}"

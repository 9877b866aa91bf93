"""Distributed search for multi-task models.

import mtlsearch

model = mtlsearch.load("MODEL")            # what `mtlsearch export DIR --out MODEL` wrote
predictions = model.predict(table)         # a pyarrow Table, a pandas DataFrame or a dict of arrays

experiment = mtlsearch.open("DIR")         # what `mtlsearch run --out DIR` wrote, finished or not
experiment.trials, experiment.epochs       # pyarrow Tables
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mtlsearch.export.model import Model
    from mtlsearch.export.tables import Tables

__all__ = ["__version__", "load", "open"]
__version__ = "0.1.0"


def load(path: str | Path) -> Model:
    """A model that `mtlsearch export` wrote. Needs neither Ray nor Optuna nor W&B, and unpickles nothing.

    Raises:
        mtlsearch.errors.ConfigError: the folder is no model, was made by a newer release, or a file has changed.

    >>> model = mtlsearch.load("MODEL")
    >>> [task.name for task in model.tasks]
    ['cancelled', 'dep_late15', 'arr_delay', 'air_time']
    >>> predictions = model.predict(table)
    >>> predictions.column_names
    ['cancelled', 'dep_late15', 'arr_delay', 'air_time']
    >>> model.card.splitlines()[5]
    '# flights, trial 4: shared_bottom'
    """
    from mtlsearch.export.model import load_model

    return load_model(path)


def open(path: str | Path) -> Tables:  # noqa: A001 - mtlsearch.open reads well; nothing here opens files
    """An experiment that `mtlsearch run` wrote, as pyarrow Tables; it may still run, or have crashed.

    `trials` (the leaderboard), `best`, `epochs` (a row a trial, epoch, task and metric), `baselines`, `final` (the
    final ranking) and `space`.

    Raises:
        mtlsearch.errors.ConfigError: the folder is no experiment, or a file is damaged.

    >>> experiment = mtlsearch.open("DIR")
    >>> experiment.trials.num_rows
    6
    >>> experiment.epochs.column_names
    ['trial', 'role', 'epoch', 'task', 'metric', 'value']
    >>> experiment.best["trial"].to_pylist()
    [4]
    """
    from mtlsearch.export.tables import open_experiment

    return open_experiment(path)

"""What must hold of a source's columns before they are worth training on.

Axes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.task import Task
from mtlsearch.data.columns import SPLITS, Columns
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats


def check_columns(columns: Columns, tasks: Sequence[Task], file: Path) -> None:
    """Raises ConfigError for an empty split, an infinite value, or a task that has nothing to learn."""
    for name in SPLITS:
        if not len(columns.rows[name]):
            raise ConfigError(f"every split must have rows, but {name} is empty. Add rows for it.", Where(file))
    for column, column_N in (*columns.numeric.items(), *columns.labels.items()):
        _check_finite(column, column_N, file)
    for task in tasks:
        _check_labels(task, columns.labels[task.name][columns.rows["train"]], file)


def _check_finite(name: str, column_N: Floats, file: Path) -> None:
    import numpy as np

    infinite_N = np.isinf(column_N)
    if infinite_N.any():
        raise ConfigError(
            f"column {name!r} must be finite, but data row {int(infinite_N.argmax()) + 1} holds "
            f"{column_N[infinite_N][0]}. Leave a missing value empty.",
            Where(file),
        )


def _check_labels(task: Task, train_N: Floats, file: Path) -> None:
    import numpy as np

    found = np.unique(train_N[~np.isnan(train_N)])
    if len(found) < 2:
        only = f"only {found[0]:g}" if len(found) else "no label at all"
        raise ConfigError(
            f"task {task.name!r} needs training rows with different labels, but they have {only}. "
            "Add rows, or leave the task out of data.tasks.",
            Where(file),
        )

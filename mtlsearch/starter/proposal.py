"""Which columns look like labels, and of which kind; which ones say how rows belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config import TaskKind
from mtlsearch.errors import ConfigError, Where
from mtlsearch.space.spelling import unknown
from mtlsearch.starter.survey import Survey, Surveyed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MOST_CLASSES = 20
MOST_PROPOSED = 4
FEWEST_A_CLASS = 5
"""Rows that a class has on average, at least; with fewer, whole numbers are amounts."""

LABEL = re.compile(
    r"(^|[_\W])(target|label|labels|y|y_?\d+|class|outcome|response|diagnosis|death|died|dead|mortality|survived|"
    r"survival|churn|churned|default|fraud|click|clicked|conversion|converted|purchase|purchased|readmitted|"
    r"readmission|los|length_of_stay|rating|score|price)([_\W]|$)",
    re.IGNORECASE,
)
"""What people call a column that is to be predicted."""

GROUP = re.compile(
    r"^(patient|subject|user|customer|member|person|client|account|household)s?[_\W]?(id|no|number|key)?$", re.I
)
SPLIT_VALUES = {"train", "training", "validation", "valid", "val", "dev", "test", "testing"}


@dataclass(frozen=True)
class Proposed:
    """A task."""

    column: str
    kind: TaskKind
    positive: Any = None
    """Of a binary task that is not 0 and 1 already: what counts as 1."""


@dataclass(frozen=True)
class Proposal:
    """How the table would be used."""

    tasks: tuple[Proposed, ...]
    others: tuple[str, ...]
    """Further columns that could be tasks."""
    group: str | None
    split: str | None


def propose(table: Survey, wanted: Sequence[str] | None, file: Path) -> Proposal:
    """Tasks and the columns that rule the split.

    Args:
        wanted: columns that are to be the tasks; None to guess.
    Raises:
        ConfigError: a wanted column is not there or cannot be a label, or no column could be one.
    """
    possible = {name: task for name, column in table.columns.items() if (task := as_task(column)) is not None}
    if wanted is not None:
        chosen = [_wanted(name, table, possible, file) for name in wanted]
    else:
        chosen = [possible[name] for name in _guessed(possible)]
    if not chosen:
        raise ConfigError(
            "a table needs a column that can be predicted: two or more different values, no dates, no free text. "
            "None is here.",
            Where(file),
        )
    taken = {task.column for task in chosen}
    return Proposal(
        tasks=tuple(chosen),
        others=tuple(name for name in possible if name not in taken),
        group=next((name for name, column in table.columns.items() if name not in taken and _is_group(column)), None),
        split=next((name for name, column in table.columns.items() if name not in taken and _is_split(column)), None),
    )


def as_task(column: Surveyed) -> Proposed | None:
    """The task that a column would be, or None when nothing could be learnt from it."""
    if column.type.kind not in ("number", "flag", "text") or column.num_distinct < 2:
        return None
    if column.num_distinct == 2:
        values = list(column.counts)
        usual = column.type.kind == "flag" or set(values) == {0, 1}
        return Proposed(column.name, "binary", None if usual else values[-1])  # the rarer one is what is looked for
    few = column.num_distinct <= MOST_CLASSES and column.num_present >= FEWEST_A_CLASS * column.num_distinct
    if column.type.kind == "text":
        return Proposed(column.name, "multiclass") if few else None
    if few and all(float(value).is_integer() and value >= 0 for value in column.counts):
        return Proposed(column.name, "multiclass")
    return None if is_identifier(column) else Proposed(column.name, "regression")


def is_identifier(column: Surveyed) -> bool:
    """Whether whole numbers differ in every row, as a running number does."""
    if column.num_distinct < len(column.values) or not column.is_number:
        return False
    return all(float(value).is_integer() for value in column.counts)


def labels_of(task: Proposed, column: Surveyed) -> NDArray[np.float64]:
    """The task's labels in the sample, classes as numbers; NaN is missing."""
    import numpy as np

    if task.kind == "regression":
        return column.floats()
    index = {value: float(number) for number, value in enumerate(column.counts)}
    return np.array([index.get(value, np.nan) for value in column.values.to_pylist()])


def _wanted(name: str, table: Survey, possible: dict[str, Proposed], file: Path) -> Proposed:
    if name not in table.columns:
        raise ConfigError(f"--tasks names {unknown('column', name, list(table.columns))}", Where(file))
    if name not in possible:
        column = table.columns[name]
        raise ConfigError(
            f"--tasks names {name!r}, which cannot be predicted: it holds {column.type.kind} values, "
            f"{column.num_distinct} different ones in {column.num_present} rows. Name another column.",
            Where(file),
        )
    return possible[name]


def _guessed(possible: dict[str, Proposed]) -> list[str]:
    """By name; else the last column that can be one, where tables have their label by custom."""
    named = [name for name in possible if LABEL.search(name)]
    return named[:MOST_PROPOSED] or list(possible)[-1:]


def _is_group(column: Surveyed) -> bool:
    several = 2 < column.num_distinct < 0.9 * column.num_present
    return several and GROUP.match(column.name) is not None and column.missing == 0


def _is_split(column: Surveyed) -> bool:
    values = {str(value).strip().lower() for value in column.counts}
    return column.type.kind == "text" and len(values) == 3 and values <= SPLIT_VALUES and column.missing == 0

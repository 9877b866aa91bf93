"""The leaderboard on a terminal: as many columns as fit, those that tell most first, and no number cut short."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from rich.table import Table

from mtlsearch.report.leaderboard import Leaderboard

SHOWN_TRIALS = 10
_HEADING_WIDTH = 8
_TEXTS = ("model", "state")
_LABELS = {"trial": "trial", "model.kind": "model", "state": "state", "objective": "objective"}


@dataclass(frozen=True)
class Column:
    """A heading, of one line or several, and what stands below it."""

    heading: str
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        """Characters that it needs."""
        return max(map(len, (*self.heading.split("\n"), *self.cells)))


def terminal_table(board: Leaderboard, width: int) -> Table:
    """The first trials, then one row with each task's single-task baseline.

    Which trial, what it is and what it reached come first; then each task's main metric; then the parameters that
    differ between trials. Columns that do not fit into `width` are left out: leaderboard.csv has all.
    """
    trials = [row for row in board.rows if row["role"] == "trial"]
    baseline = _merged([row for row in board.rows if row["role"] == "baseline" and row["state"] == "COMPLETE"])
    rows = [*trials[:SHOWN_TRIALS], *baseline]
    always = [_column(name, label, rows) for name, label in _LABELS.items()]
    scores = [_column(name, heading(name), rows) for name in _main_scores(board)]
    varied = [_column(name, heading(name), rows) for name in _varied(board, trials)]
    gap = 2 if len(fitting([*always, *scores], width, 2, len(always))) == len(always) + len(scores) else 1
    chosen = fitting([*always, *scores, *varied], width, gap, len(always))
    table = drawn(chosen, gap, num_dim=len(baseline))
    if (hidden := len(always) + len(scores) - len(chosen)) > 0:
        table.caption, table.caption_justify = f"{hidden} more tasks are in leaderboard.csv", "left"
    return table


def drawn(columns: Sequence[Column], gap: int, num_dim: int) -> Table:
    """The columns as a table, its last `num_dim` rows dim."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, gap, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.heading in _TEXTS else "right"
        table.add_column(column.heading, justify=justify, vertical="bottom", no_wrap=True)
    num_rows = len(columns[0].cells)
    for index in range(num_rows):
        style = "dim" if index >= num_rows - num_dim else ""
        table.add_row(*(column.cells[index] for column in columns), style=style)
    return table


def short(value: object) -> str:
    """Four digits of a number, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _merged(baselines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row with every baseline's scores; no row without baselines."""
    if not baselines:
        return []
    scores = {name: value for row in baselines for name, value in row.items() if "/" in name and value is not None}
    return [scores | {"model.kind": "baselines", "objective": 0.0}]


def _main_scores(board: Leaderboard) -> list[str]:
    """The first validation metric of each task, which is its main one."""
    first: dict[str, str] = {}
    for name in board.columns:
        task, slash, _ = name.rpartition("/")
        if slash and not name.startswith("test/"):
            first.setdefault(task, name)
    return list(first.values())


def _varied(board: Leaderboard, trials: Sequence[dict[str, Any]]) -> list[str]:
    """Parameters that have several values."""
    params = [name for name in board.columns if "." in name and "/" not in name and name not in _LABELS]
    return [name for name in params if len({row[name] for row in trials} - {None}) > 1]


def fitting(columns: Sequence[Column], width: int, gap: int, least: int) -> Sequence[Column]:
    """The first columns, as many as fit; the first `least` in any case."""
    ends = list(accumulate(column.width + gap for column in columns))
    return columns[: max(least, sum(end - gap <= width for end in ends))]


def _column(name: str, label: str, rows: Sequence[dict[str, Any]]) -> Column:
    return Column(label, tuple(short(row.get(name)) for row in rows))


def heading(name: str) -> str:
    """`dep_late15/auroc` → `dep_`, `late15` and `auroc`, a line each: hardly broader than the numbers below."""
    lines: list[str] = []
    for part in re.split(r"[/.]", name):
        lines.append("")
        for piece in re.findall(r"[^_-]*[_-]?", part):
            if lines[-1] and len(lines[-1]) + len(piece) > _HEADING_WIDTH:
                lines.append("")
            lines[-1] += piece
    return "\n".join(cut for line in lines for cut in textwrap.wrap(line, 2 * _HEADING_WIDTH))

"""From a table that nobody prepared to a space file that `mtlsearch check` accepts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlsearch.data.table.reader import open_table
from mtlsearch.errors import ConfigError, Where
from mtlsearch.starter.leaks import Leak, groups_of, leak_of
from mtlsearch.starter.proposal import Proposal, Proposed, is_identifier, labels_of, propose
from mtlsearch.starter.space_file import name_of, space_text
from mtlsearch.starter.survey import Survey, Surveyed, look_at

__all__ = ["Leak", "Proposal", "Proposed", "Starter", "Survey", "Surveyed", "start", "write"]


@dataclass(frozen=True)
class Starter:
    """What was seen of a table, and the space file for it."""

    table: Survey
    proposal: Proposal
    leaks: tuple[Leak, ...]
    notes: tuple[str, ...]
    text: str


def start(data: str, tasks: Sequence[str] | None, out: Path) -> Starter:
    """Looks at a table.

    Args:
        data: a file, a folder or a glob.
        tasks: columns that are to be predicted; None to guess.
        out: where the space file will be.
    Raises:
        ConfigError: the table cannot be read, or a task is no column that could be one.
    """
    with open_table(data) as reader:
        table = look_at(reader)
        proposal = propose(table, tasks, reader.file)
        leaks = tuple(_leaks(table, proposal))
        text = space_text(data, name_of(data), table.num_rows, proposal, leaks, f"mtlsearch run {out}")
        return Starter(table, proposal, leaks, reader.notes, text)


def write(starter: Starter, out: Path) -> None:
    """Writes the space file. Raises ConfigError when it is there already."""
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(starter.text)
    except OSError as error:
        there = isinstance(error, FileExistsError)
        found = "it is there already" if there else f"writing it ended with: {error.strerror}"
        raise ConfigError(f"the space file must be a new one, but {found}. Give another --out.", Where(out)) from error


def _leaks(table: Survey, proposal: Proposal) -> list[Leak]:
    tasks = {task.column: (task, labels_of(task, table.columns[task.column])) for task in proposal.tasks}
    aside = {proposal.group, proposal.split, *tasks}
    found = []
    for name, column in table.columns.items():
        if name in aside or not column.counts or is_identifier(column):
            continue
        groups_N = groups_of(column.values, is_number=column.is_number)
        leaks = (leak_of(name, groups_N, task.column, task.kind, labels_N) for task, labels_N in tasks.values())
        found += [leak for leak in leaks if leak is not None]
    return found

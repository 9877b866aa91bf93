"""Every error that a user may see.

    MtlsearchError
    ├── ConfigError     the user's input is wrong: exit code 2, one message, nothing written
    ├── TrialFailed     one trial cannot go on (diverged, impossible); the search goes on without it
    ├── TrialLeft       one trial was put down where it can be taken up without loss
    └── Interrupted     somebody ended the search; exit code 130, resumable

A message says what must hold, what was found and what to do. Our own mistakes are assertions, not these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class MtlsearchError(Exception):
    """Base of every error that this package raises on purpose."""


@dataclass(frozen=True)
class Where:
    """A place in a user's file; lines and columns count from 1."""

    file: Path
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [str(self.file), *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(parts)


class ConfigError(MtlsearchError):
    """The user's input is wrong.

    Args:
        message: what must hold, what was found, what to do.
        where: the file, line and column that is to be changed, when there is one.
    """

    def __init__(self, message: str, where: Where | None = None) -> None:
        self.message = message
        self.where = where
        super().__init__(f"{where}: {message}" if where else message)


class TrialFailed(MtlsearchError):
    """One trial cannot go on. The text is the reason that the study, the leaderboard and W&B show."""


class TrialLeft(MtlsearchError):
    """One trial was put down, with a checkpoint, because somebody wished so. The text is the reason."""


class Interrupted(MtlsearchError):
    """Somebody ended the search, which can be resumed: exit code 130."""

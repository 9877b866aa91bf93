"""What is asked for on the command line, checked before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mtlsearch.data.columns import SplitName
from mtlsearch.errors import ConfigError

KINDS = (".parquet", ".feather", ".arrow", ".csv")
"""Extensions that predictions may have."""


@dataclass(frozen=True)
class Request:
    """Which rows to predict, and how."""

    data: str | None
    """A file, a folder or a glob."""
    split: SplitName | None = None
    """Instead: a split of the data that the model learnt from."""
    keep: tuple[str, ...] = ()
    """Columns that pass through."""
    static: str | None = None
    """Of long sequences: a file with one row a sequence."""
    allow_unseen: bool = False
    """Whether a category that training did not have counts as unknown; else it is an error."""
    batch_rows: int = 1 << 14

    def check(self, out: Path, force: bool) -> None:
        """Refuses rows that are named twice or not at all, and a place that is taken or of no known kind.

        Raises:
            ConfigError: it is; with `force`, only if the place is a folder, or the data itself.
        """
        if (self.data is None) == (self.split is None):
            found = "both are given" if self.data is not None else "neither is given"
            raise ConfigError(f"predict needs either DATA or --split, but {found}. Give one of them.")
        if self.split is not None and (self.keep or self.static is not None):
            raise ConfigError("--keep and --static belong to DATA, but --split is given. Leave them out.")
        if out.suffix.lower() not in KINDS:
            raise ConfigError(f"--out must end in {', '.join(KINDS)}, but is {out.name!r}. Choose one of them.")
        if out.exists():
            self._check_taken(out, force)
        elif not out.absolute().parent.is_dir():
            raise ConfigError(f"--out must be in a folder that exists, but {out.parent} does not. Make it first.")

    def _check_taken(self, out: Path, force: bool) -> None:
        if self.data is not None and Path(self.data).exists() and out.samefile(self.data):
            raise ConfigError(f"--out must be a new file, but {out} is the data itself. Choose another.")
        if not force or out.is_dir():
            instead = "" if out.is_dir() else " or replace it with --force"
            raise ConfigError(f"--out must be a new file, but {out} exists. Choose another{instead}.")


def trial_number(text: str) -> int | None:
    """`best` is None. Raises ConfigError for what is neither that nor a number."""
    if text == "best":
        return None
    if not text.isdecimal():
        raise ConfigError(f"--trial must be a trial's number or best, found {text!r}. See `mtlsearch leaderboard`.")
    return int(text)

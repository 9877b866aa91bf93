"""What is asked for on the command line, checked before anything heavy is loaded."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
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
            ConfigError: it is; with `force`, only if the place is a folder, or belongs to what is read.
        """
        if (self.data is None) == (self.split is None):
            found = "both are given" if self.data is not None else "neither is given"
            raise ConfigError(f"predict needs either DATA or --split, but {found}. Give one of them.")
        if self.split is not None and (self.keep or self.static is not None):
            raise ConfigError("--keep and --static belong to DATA, but --split is given. Leave them out.")
        if out.suffix.lower() not in KINDS:
            raise ConfigError(f"--out must end in {', '.join(KINDS)}, but is {out.name!r}. Choose one of them.")
        for read, what in ((self.data, "the data"), (self.static, "the file of --static")):
            if read is not None:
                check_apart(out, read, what)
        if out.exists():
            _check_taken(out, force)
        elif not out.absolute().parent.is_dir():
            raise ConfigError(f"--out must be in a folder that exists, but {out.parent} does not. Make it first.")


def check_apart(out: Path, read: str, what: str) -> None:
    """Refuses predictions that would replace what is read, or lie where they would be read as data the next time.

    Args:
        read: a file, a folder or a glob.
        what: it is, for the message.
    Raises:
        ConfigError: `out` is one of the files, lies in the folder, or is matched by the glob.
    """
    place = Path(read).expanduser()
    if out.exists() and any(out.samefile(file) for file in _files(place)):
        found = f"is {what} itself"
    elif place.is_dir() and out.absolute().parent.is_dir() and out.absolute().parent.samefile(place):
        found = f"is in the folder of {what}"
    elif not place.exists() and _matches(out.absolute().parts, place.absolute().parts):
        found = f"is matched by the glob of {what}"
    else:
        return
    raise ConfigError(f"--out must be a new file, but {out} {found}. Choose another.")


def _files(place: Path) -> Iterator[Path]:
    """All that are there, those in folders below too: built-in data sets have some."""
    if place.is_dir():
        yield from (file for file in place.rglob("*") if file.is_file())
    elif place.exists():
        yield place
    else:
        names = glob.glob(str(place), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        yield from (file for name in names if (file := Path(name)).is_file())


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path is one of a glob's, folder by folder; `**` stands for any number of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _check_taken(out: Path, force: bool) -> None:
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

"""Which files a path stands for, all of one kind."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal

from mtlsearch.errors import ConfigError, Where

FileKind = Literal["parquet", "ipc", "csv"]

KINDS: dict[str, FileKind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "ipc",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".csv": "csv",
    ".tsv": "csv",
}
_COMPRESSED = (".gz", ".zip")
_KNOWN = ".parquet, .csv, .tsv (or either with .gz or .zip behind it), .feather, .arrow"


def find_files(path: str) -> tuple[Path, ...]:
    """The file, the folder's files, or those that the glob matches, sorted by path.

    A folder's hidden files, those that begin with an underscore, and those of no known extension are passed over.

    Raises:
        ConfigError: there is none, its extension is unknown, or the files are of several kinds.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = [file for file in place.iterdir() if kind_of(file) and file.name[0] not in "._" and file.is_file()]
        if not files:
            raise ConfigError(
                f"the folder must hold tables ({_KNOWN}), but it has none of its own. "
                f"For those in folders below it, give a glob such as {place}/**/*.parquet.",
                Where(place),
            )
    elif place.exists():
        files = [place]
    else:
        names = glob.glob(str(place), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        files = [file for name in names if (file := Path(name)).is_file()]
        if not files:
            what = "the glob must match files" if glob.has_magic(path) else "the file must exist"
            raise ConfigError(f"{what}, but there is none. Check data.path.", Where(place))
    _check_kinds(files := sorted(files))
    return tuple(files)


def kind_of(file: Path) -> FileKind | None:
    """By its extension; None for an unknown one."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        return "csv" if len(suffixes) > 1 and KINDS.get(suffixes[-2]) == "csv" else None
    return KINDS.get(suffixes[-1]) if suffixes else None


def _check_kinds(files: list[Path]) -> None:
    first = kind_of(files[0])
    for file in files:
        if kind_of(file) is None:
            raise ConfigError(
                f"a table's extension must be one of {_KNOWN}, but this is {''.join(file.suffixes) or 'none'!r}. "
                "Rename or convert it.",
                Where(file),
            )
        if kind_of(file) != first:
            raise ConfigError(
                f"the files of a table must be of one kind, but this is {kind_of(file)} and {files[0].name} is "
                f"{first}. Give a glob such as {file.parent}/*{file.suffix}.",
                Where(file),
            )

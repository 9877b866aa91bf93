"""The store: a source converted once per machine, memory-mapped by every process that trains on it.

CACHE/data/SOURCE-DIGEST/     train.arrow validation.arrow test.arrow schema.json; of sequences also train.steps.arrow …
CACHE/data/SOURCE-DIGEST.lock held while it is built
CACHE/data/hashes/            the content hashes of source files that have not changed
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mtlsearch.config.data import DataConfig
from mtlsearch.data.arrow import read_split
from mtlsearch.data.columns import SplitName
from mtlsearch.data.conversion import SCHEMA, convert
from mtlsearch.data.identity import digest_of
from mtlsearch.data.lock import locked
from mtlsearch.data.progress import conversion_of
from mtlsearch.data.schema import DataSchema
from mtlsearch.data.sources import source_of, tasks_of
from mtlsearch.data.split import Split
from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder.files import default_cache


@dataclass(frozen=True)
class Store:
    """A folder of one data set."""

    folder: Path
    schema: DataSchema

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Reads the schema only. Raises ConfigError when the folder is no store."""
        try:
            text = (folder / SCHEMA).read_text(encoding="utf-8")
            return cls(folder, DataSchema.model_validate_json(text))
        except FileNotFoundError as error:
            raise ConfigError(f"the folder must be a data store with {SCHEMA}, but has none.", Where(folder)) from error
        except ValidationError as error:
            raise ConfigError(
                f"the file must be a data set's schema, but it is not ({error.error_count()} faults). "
                "Remove its folder; it is made again from the source.",
                Where(folder / SCHEMA),
            ) from error

    def split(self, name: SplitName) -> Split:
        """Maps one split's file."""
        return read_split(self.folder, name)


def open_store(config: DataConfig, cache: Path | None = None) -> Store:
    """The store of a data set, converted now if no process on this machine has done so.

    Args:
        config: the data set; only the content of its files counts, not where they lie.
        cache: the cache folder; by default $MTLSEARCH_CACHE, else the platform's.
    Raises:
        ConfigError: a file is missing or wrong. Nothing half-written stays.
    """
    tasks_of(config)  # an unknown task is said before files are looked for
    home = (cache or default_cache()) / "data"
    source = source_of(config)
    files = source.files()
    with _writable(home):
        (home / "hashes").mkdir(parents=True, exist_ok=True)
        digest = digest_of(config, source.version, files, home / "hashes")
        folder = home / f"{config.source}-{digest}"
        if not (folder / SCHEMA).is_file():
            with locked(folder.with_suffix(".lock")):
                if not (folder / SCHEMA).is_file():  # another process may have built it while we waited
                    _build(config, digest, folder)
    return Store.open(folder)


def _build(config: DataConfig, digest: str, folder: Path) -> None:
    """Written aside and renamed; what a killed process left aside is removed first."""
    aside = folder.with_suffix(".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        with conversion_of(config.source):
            convert(config, digest, aside)
        shutil.rmtree(folder, ignore_errors=True)  # what a hand that removed the schema has left
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the cache folder must be writable, but: {error.strerror or error}. Set MTLSEARCH_CACHE to one that is.",
            Where(folder),
        ) from error

"""The experiment's folder: where everything is, written whole or not at all.

DIR/space.yaml          as given            DIR/plan.json       versions, seed, data digest, overrides
DIR/study.journal       the Optuna study    DIR/schema.json     the data's tasks, columns and their encoders
DIR/trials/00017/       order.json, metrics.jsonl, model.json, checkpoint/, test.json
DIR/leaderboard.csv     and .parquet        DIR/final.json      the final ranking, where one was asked for
DIR/status.json         what runs where     DIR/stop            somebody wishes that the search ends
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder.local_copy import LocalCopy
from mtlsearch.folder.storage import Place, is_uri
from mtlsearch.folder.trial import TrialFolder, damaged


def check_new(place: Place) -> None:
    """Refuses a place for a new experiment where something is, or where nothing can be written.

    Raises:
        ConfigError: there is a file or a folder that is not empty, or the folder around it is not ours.
    """
    if is_uri(place):
        LocalCopy(str(place)).check_new()
        return
    path = Path(place)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir()) or path.samefile(Path.cwd())):
            instead = f", or go on with `mtlsearch resume {path}`" if (path / "plan.json").is_file() else ""
            raise ConfigError(f"--out must be a new folder, but {path} exists. Choose another{instead}.")
        around = next(each for each in path.absolute().parents if each.exists())
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise _cannot_make(path, error.strerror) from error
    if not around.is_dir() or not os.access(around, os.W_OK | os.X_OK):
        raise _cannot_make(path, f"{around} is {'not writable' if around.is_dir() else 'no folder'}")


def _cannot_make(path: Path, reason: str | None) -> ConfigError:
    return ConfigError(f"--out {path} cannot be made: {reason}. Choose a folder that you may write to.")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_within(file: IO[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _locked(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class ExperimentFolder:
    """The folder of one experiment.

    Args:
        path: of the folder, or of the copy on this host.
        copy: of an experiment in a storage.
    """

    def __init__(self, path: Path, copy: LocalCopy | None = None) -> None:
        self.path = path
        self._copy = copy
        self.space = path / "space.yaml"
        self.plan = path / "plan.json"
        self.journal = path / "study.journal"
        self.leaderboard = path / "leaderboard.csv"
        self.final = path / "final.json"
        self.status = path / "status.json"
        self.stop = path / "stop"

    @classmethod
    def at(cls, place: Place) -> ExperimentFolder:
        """What is at a folder's path or a storage's URI, if anything.

        Raises:
            ConfigError: the URI is none that can be used.
        """
        if not is_uri(place):
            return cls(Path(place))
        copy = LocalCopy(str(place))
        return cls(copy.path, copy)

    @classmethod
    def create(cls, place: Place, space: str, plan: dict[str, Any], schema: str) -> ExperimentFolder:
        """A new experiment; the folder appears whole, or not at all. In a storage it appears when it is driven.

        Args:
            space: the space file's text.
            plan: what made it.
            schema: the data's schema as JSON: with it and a checkpoint, raw rows can be predicted.
        Raises:
            ConfigError: something is there already, or the place cannot be written to.
        """
        check_new(place)
        folder = cls.at(place)
        path = folder.path
        if folder._copy is not None:
            folder._copy.begin_new()
        aside = path.absolute().with_name(f".{path.name}.{os.getpid()}")
        try:
            aside.mkdir(parents=True)
            (aside / "trials").mkdir()
            (aside / "space.yaml").write_text(space, encoding="utf-8")
            (aside / "plan.json").write_text(json.dumps(plan, indent=1))
            (aside / "schema.json").write_text(schema, encoding="utf-8")
            aside.replace(path)
        except OSError as error:
            raise _cannot_make(path, error.strerror) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    @classmethod
    def open(cls, place: Place) -> ExperimentFolder:
        """An experiment that exists; of one in a storage, as it is now.

        Raises:
            ConfigError: the folder is missing, or is no experiment.
        """
        folder = cls.at(place)
        if folder._copy is not None:
            folder._copy.fetch(lambda: folder._driver_here() is not None)
        missing = [name.name for name in (folder.space, folder.plan) if not name.is_file()]
        if missing:
            found = "is not a folder" if not folder.path.is_dir() else f"has no {' and no '.join(missing)}"
            raise ConfigError(
                f"{place} is no experiment: it {found}. Give the folder that `mtlsearch run --out` wrote."
            )
        return folder

    def read_plan(self) -> dict[str, Any]:
        """What plan.json says.

        Raises:
            ConfigError: plan.json is damaged.
        """
        try:
            plan = json.loads(self.plan.read_bytes())
        except ValueError as error:  # no JSON, or no UTF-8
            raise damaged(
                f"the file must be the JSON that `mtlsearch run` wrote ({error})", Where(self.plan)
            ) from error
        overrides = plan.get("overrides") if isinstance(plan, dict) else None
        if not isinstance(overrides, list) or not all(isinstance(change, str) for change in overrides):
            raise damaged("the file must be the plan that `mtlsearch run` wrote", Where(self.plan))
        return dict(plan)

    def trial(self, number: int) -> TrialFolder:
        """The folder of one trial."""
        name = f"trials/{number:05d}"
        checkpoints = self._copy.files(f"{name}/checkpoint") if self._copy is not None else None
        return TrialFolder(self.path / name, checkpoints)

    @property
    def uri(self) -> str | None:
        """Of the storage that the experiment is in; None in a folder of this host."""
        return self._copy.uri if self._copy is not None else None

    @property
    def name(self) -> str:
        """For people, and for commands: the URI, or the folder's path."""
        return self.uri or str(self.path)

    def shown(self, path: Path) -> str:
        """A file of the folder, for people."""
        if self.uri is None or not path.is_relative_to(self.path):
            return str(path)
        return f"{self.uri.partition('?')[0]}/{path.relative_to(self.path).as_posix()}"

    def push(self, *trials: int, journal_last: bool = False) -> None:
        """Has the storage hold what was written, before it is acted on; see `LocalCopy.push`. In a folder it is there.

        Raises:
            MtlsearchError: another driver took over, or the storage is lost.
        """
        if self._copy is not None:
            self._copy.push(*trials, journal_last=journal_last)

    def send(self, *paths: Path) -> None:
        """Has the storage hold what a command wrote into the folder, without driving it.

        Raises:
            StorageLost: it could not be sent.
        """
        if self._copy is not None:
            self._copy.send(paths)

    def ask_to_stop(self) -> None:
        """Leaves word for the driver.

        Raises:
            ConfigError: the storage cannot be used.
        """
        if self._copy is not None:
            self._copy.ask_to_stop()
        self.stop.touch()

    def driver(self) -> str | None:
        """Who drives the experiment now, as the lock has it; None when nobody does."""
        here = self._driver_here()
        return self._copy.holder() if here is None and self._copy is not None else here

    def _driver_here(self) -> str | None:
        """The process on this host that does."""
        lock = self.path / "driver.lock"
        if not lock.exists():
            return None
        with lock.open("a+") as file:
            if _locked(file):
                return None
            file.seek(0)
            return file.read().strip()

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Holds the experiment for one driver; the kernel lets go when the process ends, however it ends.

        Raises:
            ConfigError: another process drives it.
        """
        with (self.path / "driver.lock").open("a+") as lock:
            if not _locked_within(lock, seconds=0.5):  # who only looks holds it for a moment too
                lock.seek(0)
                holder = lock.read().strip()
                raise ConfigError(f"{self.name} is being searched by process {holder}. Wait for it, or stop it.")
            self.stop.unlink(missing_ok=True)  # a wish of before
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            with nullcontext() if self._copy is None else self._copy.driven():
                yield

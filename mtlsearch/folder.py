"""The experiment's folder: where everything is, written whole or not at all.

DIR/space.yaml          as given            DIR/plan.json       versions, seed, data digest, overrides
DIR/study.journal       the Optuna study    DIR/leaderboard.csv and .parquet
DIR/trials/00017/       order.json, metrics.jsonl, checkpoint/, test.json
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtlsearch.errors import ConfigError
from mtlsearch.records import EpochMetrics, TrialOrder


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes aside, then renames: a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class TrialFolder:
    """One trial's files. Rank 0 of the trial writes them, everybody may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.order = path / "order.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint"
        self.test = path / "test.json"
        self.error = path / "error.txt"

    def begin(self, order: TrialOrder) -> None:
        """Makes the folder; a trial that is taken up again finds what it left."""
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        write_whole(self.order, order.model_dump_json(indent=1))

    def append(self, metrics: EpochMetrics) -> None:
        """Adds one line to metrics.jsonl."""
        with self.metrics.open("a") as log:
            log.write(metrics.model_dump_json() + "\n")

    def epochs(self) -> list[EpochMetrics]:
        """The epochs measured so far; a last line that was cut off is not one of them."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text().split("\n")[:-1]
        return [EpochMetrics.model_validate_json(line) for line in lines]

    def keep_epochs(self, last: int) -> None:
        """Drops lines after epoch `last`: they are trained again, from the checkpoint of that epoch."""
        kept = [metrics for metrics in self.epochs() if metrics.epoch <= last]
        write_whole(self.metrics, "".join(metrics.model_dump_json() + "\n" for metrics in kept))

    def read_order(self) -> TrialOrder:
        """What the trial was asked to do."""
        return TrialOrder.model_validate_json(self.order.read_text())


class ExperimentFolder:
    """The folder of one experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.space = path / "space.yaml"
        self.plan = path / "plan.json"
        self.journal = path / "study.journal"
        self.leaderboard = path / "leaderboard.csv"

    @classmethod
    def create(cls, path: Path, space: str, plan: dict[str, Any]) -> ExperimentFolder:
        """A new experiment; the folder appears whole, or not at all.

        Raises:
            ConfigError: something is there already, or the place cannot be written to.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"--out must be a new folder, but {path} exists. Choose another, or go on with `mtlsearch resume {path}`."
            )
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            aside.mkdir(parents=True)
            (aside / "trials").mkdir()
            (aside / "space.yaml").write_text(space)
            (aside / "plan.json").write_text(json.dumps(plan, indent=1))
            aside.replace(path)
        except OSError as error:
            raise ConfigError(
                f"--out {path} cannot be made: {error.strerror}. Choose a folder that you may write to."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> ExperimentFolder:
        """An experiment that exists.

        Raises:
            ConfigError: the folder is missing, or is no experiment.
        """
        folder = cls(path)
        missing = [name.name for name in (folder.space, folder.plan) if not name.is_file()]
        if missing:
            found = "is not a folder" if not path.is_dir() else f"has no {' and no '.join(missing)}"
            raise ConfigError(f"{path} is no experiment: it {found}. Give the folder that `mtlsearch run --out` wrote.")
        return folder

    def read_plan(self) -> dict[str, Any]:
        """What plan.json says.

        Raises:
            ConfigError: plan.json is no JSON object.
        """
        try:
            plan = json.loads(self.plan.read_text())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(
                f"{self.plan} must be the JSON that `mtlsearch run` wrote, but: {error}. Start anew."
            ) from error
        if not isinstance(plan, dict):
            raise ConfigError(f"{self.plan} must be the JSON object that `mtlsearch run` wrote. Start anew.")
        return plan

    def trial(self, number: int) -> TrialFolder:
        """The folder of one trial."""
        return TrialFolder(self.path / "trials" / f"{number:05d}")

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Holds the experiment for one driver; the kernel lets go when the process ends, however it ends.

        Raises:
            ConfigError: another process drives it.
        """
        with (self.path / "driver.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise ConfigError(
                    f"{self.path} is being searched by process {lock.read().strip()}. Wait for it, or stop it."
                ) from error
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

"""One trial's files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder.files import Files, FolderFiles, write_whole
from mtlsearch.records import EpochMetrics, ModelRecord, Scores, TrialOrder, json_of


class TrialFolder:
    """One trial's files. The driver writes them, everybody may read; checkpoints are rank 0's of the trial.

    Args:
        checkpoints: where they are, if not in the folder.
    """

    def __init__(self, path: Path, checkpoints: Files | None = None) -> None:
        self.path = path
        self._checkpoints = checkpoints
        self.order = path / "order.json"
        self.metrics = path / "metrics.jsonl"
        self.model = path / "model.json"
        self.checkpoint = path / "checkpoint"
        self.test = path / "test.json"
        self.error = path / "error.txt"

    def begin(self, order: TrialOrder) -> None:
        """Makes the folder; a trial that is taken up again finds what it left."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.order, order.model_dump_json(indent=1))
        self._drop_cut_off_line()
        for unfinished in self.checkpoint.glob(".*"):  # of a process that was killed while it wrote
            unfinished.unlink(missing_ok=True)

    @property
    def checkpoints(self) -> Files:
        """The trial's checkpoints."""
        return FolderFiles(self.checkpoint) if self._checkpoints is None else self._checkpoints

    def append(self, metrics: EpochMetrics) -> None:
        """Adds one line to metrics.jsonl, whole or not at all.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        with self.metrics.open("ab", buffering=0) as log:
            size = log.tell()
            line = (json_of(metrics) + "\n").encode()
            try:
                if log.write(line) < len(line):  # the disk is full
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.metrics))
            except OSError:
                log.truncate(size)
                raise

    def epochs(self) -> list[EpochMetrics]:
        """The epochs measured so far; a last line that was cut off is not one of them.

        Raises:
            ConfigError: a whole line is damaged.
        """
        if not self.metrics.exists():
            return []
        epochs = []
        for number, line in enumerate(self.metrics.read_bytes().split(b"\n")[:-1], start=1):
            try:
                epochs.append(EpochMetrics.model_validate_json(line))
            except ValidationError as error:
                raise damaged("every line must be what one epoch measured", Where(self.metrics, number)) from error
        return epochs

    def _drop_cut_off_line(self) -> None:
        """Of a driver that was killed while it wrote."""
        if self.metrics.exists():
            content = self.metrics.read_bytes()
            if not content.endswith(b"\n"):
                os.truncate(self.metrics, content.rfind(b"\n") + 1)

    def write_model(self, record: ModelRecord) -> None:
        """Replaces model.json."""
        write_whole(self.model, json_of(record))

    def read_order(self) -> TrialOrder:
        """What the trial was asked to do.

        Raises:
            ConfigError: the file is damaged.
        """
        try:
            return TrialOrder.model_validate_json(self.order.read_bytes())
        except ValidationError as error:
            raise damaged("the file must be what the trial was asked to do", Where(self.order)) from error

    def read_test(self) -> Scores | None:
        """The test scores; None while there are none.

        Raises:
            ConfigError: the file is damaged.
        """
        if not self.test.exists():
            return None
        try:
            return _SCORES.validate_json(self.test.read_bytes())
        except ValidationError as error:
            raise damaged("the file must be the trial's test scores", Where(self.test)) from error


_SCORES: TypeAdapter[Scores] = TypeAdapter(Scores)


def damaged(must: str, where: Where) -> ConfigError:
    return ConfigError(f"{must}, but is damaged. Restore it from a copy.", where)

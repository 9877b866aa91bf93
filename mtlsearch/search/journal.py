"""Optuna's journal file, with writes that belong together reaching the disk together.

Optuna appends a line for each parameter, report, attribute and state. A driver that is killed between two of
them leaves a trial without all its parameters, or a report whose pruning decision is lost (successive halving
notes a rung before it answers, and answers differently when asked again). One append, of one `write`, per
question keeps the study whole, and costs one fsync, or none, instead of up to ten.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial

from mtlsearch.errors import ConfigError, Where
from mtlsearch.search.history import History

T = TypeVar("T")


_CAN_WAIT = (JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE, JournalOperation.SET_TRIAL_SYSTEM_ATTR)
"""A report that ends no trial. It outlives the driver in the system's cache, and is on disk when the next trial begins
or ends; the machine itself can fail in between, and then the trial's metrics.jsonl has the epoch."""


class AtomicJournal(JournalFileBackend):
    """A journal file whose `transaction` is on disk whole or not at all; other tools can read it at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[dict[str, Any]] | None = None
        self._on_disk: int | None = None  # logs in the file while a transaction holds the lock
        self._file_lock = JournalFileSymlinkLock(str(path))
        super().__init__(str(path), lock_obj=self._file_lock)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that is written inside reaches the file in one append at the end; nothing on an exception."""
        assert self._pending is None, "transactions do not nest"
        self._file_lock.acquire()
        self._pending, self._on_disk = [], None
        try:
            yield
            if self._pending:
                self._append(self._pending)
        finally:
            self._pending, self._on_disk = None, None
            self._release()

    def _release(self) -> None:
        try:
            self._file_lock.release()
        except FileNotFoundError as error:  # Ctrl-C came between its two calls; it then repeats the second in vain
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Keeps the logs until the transaction ends, or writes them at once outside of one."""
        if self._pending is None:
            super().append_logs(logs)
        else:
            self._pending.extend(logs)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The file's logs, then the ones that wait in this transaction."""
        if self._pending is None:
            yield from self._read_file(log_number_from)
            return
        if self._on_disk is None:  # the lock is ours, so the file cannot grow while we are inside
            self._on_disk = log_number_from
            for log in self._read_file(log_number_from):
                self._on_disk += 1
                yield log
        yield from self._pending[max(0, log_number_from - self._on_disk) :]  # a slice: it may grow while they are read

    def _read_file(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The file's logs. Every question to the study looks for new ones, and mostly there are none."""
        if self._log_number_offset.get(log_number_from) != self._path.stat().st_size:
            yield from super().read_logs(log_number_from)

    def _append(self, logs: list[dict[str, Any]]) -> None:
        lines = b"".join(_line(log) for log in logs)
        with self._path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            except OSError:
                file.truncate(size)
                raise
            if not all(log["op_code"] in _CAN_WAIT for log in logs):
                os.fsync(file.fileno())
        self._remember(len(logs), len(lines))

    def _remember(self, num_logs: int, size: int) -> None:
        """Tells Optuna's reader where the new lines end. Without that it reads the file from its start next time.

        Where each line before them began is forgotten: nobody asks, and a long search has hundreds of thousands.
        """
        last = next(reversed(self._log_number_offset))
        end = self._log_number_offset[last] + size
        if end == self._path.stat().st_size:  # else lines that we have not read stand between
            self._log_number_offset = {0: 0, last + num_logs: end}


class StudyJournal(JournalStorage):
    """Optuna's storage over a journal, with the history of its one study.

    Args:
        is_apart: whether no sampler or pruner is to know of a trial.
    """

    def __init__(self, journal: AtomicJournal, is_apart: Callable[[FrozenTrial], bool]) -> None:
        self.history = History()
        self._is_apart = is_apart
        super().__init__(journal)

    def _sync_with_backend(self) -> None:
        """Reads what is new, as Optuna's does, and tells the history of each trial that changed."""
        replay = self._replay_result
        for log in self._backend.read_logs(replay.log_number_read):
            trial_id = log["trial_id"] if "trial_id" in log else len(replay._trials)  # of the one that is created
            before = replay._trials.get(trial_id)
            replay.apply_logs((log,))
            after = replay._trials.get(trial_id)
            if after is None or after is before:
                continue
            if self._is_apart(after):
                self.history.apart[after.number] = after
            else:
                self.history.changed(after)

    def transact(self, work: Callable[[], T]) -> T:
        """What the work writes to the study reaches the disk whole or not at all."""
        assert isinstance(self._backend, AtomicJournal)
        with self._backend.transaction():
            return work()


def _line(log: dict[str, Any]) -> bytes:
    return json.dumps(log, separators=(",", ":")).encode() + b"\n"


def mend(path: Path) -> None:
    """Makes a journal usable again after its writer was killed. The caller is its only writer.

    A lock that the dead process held is removed, and a last line that was cut off is dropped: what it
    described had not happened yet.

    Raises:
        ConfigError: the file is damaged in the middle.
    """
    Path(f"{path}.lock").unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    check_lines(path)


def check_lines(path: Path) -> None:
    """Reads every whole line of a journal.

    Raises:
        ConfigError: one is not what Optuna wrote.
    """
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        if not _is_log(line):
            raise ConfigError(
                "every line must be JSON that Optuna wrote, but this one is not. Restore the file from a copy.",
                Where(path, number),
            )


def _is_log(line: bytes) -> bool:
    try:
        log = json.loads(line)
    except ValueError:
        return False
    return isinstance(log, dict) and "op_code" in log

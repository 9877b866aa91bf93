"""Who drives an experiment in a storage: there is no lock there, so the driver says again and again that it lives.

`driver.json` is {id, number, host, pid}; its time is the storage's own, so hosts whose clocks differ agree on its age.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder.storage import Storage, StorageLost

NAME = "driver.json"

BEAT_SECONDS = 10.0
"""Between two signs of life."""

EXPIRES_SECONDS = 60.0
"""A driver that was silent for so long has ended, or is cut off and will see that another took over."""


class Lease:
    """One driver's claim. Hold it with `held`, ask with `check` before anything is written."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._hasty = storage, storage.hasty()
        self._id = secrets.token_hex(8)
        self._number = 0
        self.predecessor = 0
        """The number of a driver that did not give the lease back."""
        self._lost: str | None = None
        self._last = 0.0
        self._turn = threading.Lock()

    @contextmanager
    def held(self, at_beat: Callable[[], None]) -> Iterator[None]:
        """Takes the lease, keeps it alive in a thread, and gives it back.

        Args:
            at_beat: called after each sign of life; may raise OSError.
        Raises:
            ConfigError: another driver has it.
        """
        self._take()
        end = threading.Event()
        thread = threading.Thread(target=self._beat_on, args=(end, at_beat), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join(timeout=BEAT_SECONDS)
            self._give_back()

    def set_number(self, number: int) -> None:
        """Makes this driver's number known to those after it, before anything is written under it.

        Raises:
            MtlsearchError: somebody took over.
            StorageLost: it cannot be made known.
        """
        self._number = number
        self._beat(self._storage)
        self.check()

    def check(self) -> None:
        """Makes sure that nobody took over, also after this process was stopped for a while.

        Raises:
            MtlsearchError: somebody did.
            StorageLost: it cannot be known.
        """
        if self._lost is None and time.time() - self._last > EXPIRES_SECONDS / 2:
            self._beat(self._storage)
        if self._lost is not None:
            raise MtlsearchError(
                f"{self._storage.uri} was taken over by {self._lost} while this driver was silent. It ends here; "
                "nothing is lost."
            )

    def _take(self) -> None:
        holder = holder_of(self._storage)
        if holder is not None:
            raise ConfigError(f"{self._storage.uri} is being searched by {holder}. Wait for it, or stop it.")
        found = _read(self._storage)
        self._number = self.predecessor = found["number"] if found is not None else 0
        self._write(self._storage)
        found = _read(self._storage)
        if found is not None and found["id"] != self._id:  # two came at once; the last one has it
            raise ConfigError(f"{self._storage.uri} is being searched by {_named(found)}. Wait for it, or stop it.")
        self._last = time.time()

    def _beat_on(self, end: threading.Event, at_beat: Callable[[], None]) -> None:
        while not end.wait(BEAT_SECONDS) and self._lost is None:
            try:
                self._beat(self._hasty)
                at_beat()
            except (
                OSError,
                ConfigError,
            ) as error:  # whoever writes next waits for the storage, and ends the search if need be
                sys.stderr.write(f"mtlsearch: no sign of life could be given: {error}\n")

    def _beat(self, storage: Storage) -> None:
        with self._turn:
            found = _read(storage)
            if found is None:  # only its owner removes it
                self._lost = "a driver that has ended since"
            elif found["id"] != self._id:
                self._lost = _named(found)
            else:
                self._write(storage)
                self._last = time.time()

    def _write(self, storage: Storage) -> None:
        record = {"id": self._id, "number": self._number, "host": _host(), "pid": os.getpid(), "beat": time.time()}
        storage.write(NAME, json.dumps(record).encode())

    def _give_back(self) -> None:
        try:
            found = _read(self._hasty)
            if found is not None and found["id"] == self._id:
                self._hasty.remove(NAME)
        except StorageLost as error:
            sys.stderr.write(f"mtlsearch: the next driver waits for {EXPIRES_SECONDS:.0f} s: {error}\n")


def holder_of(storage: Storage) -> str | None:
    """The driver that lives, as far as its signs of life tell; None when there is none."""
    found, entry = _read(storage), storage.entry(NAME)
    if found is None or entry is None or _has_ended(found):
        return None
    if storage.now() - entry.changed > EXPIRES_SECONDS * 1e9:
        return None
    return _named(found)


def _has_ended(found: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is no more."""
    if found["host"] != _host():
        return False
    try:
        os.kill(found["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _host() -> str:
    """This machine since it was started, and this container of it: where process numbers mean the same."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [boot.read_text()[:8], space.readlink().name] if boot.exists() else []
    return "/".join([socket.gethostname(), *parts])


def _named(found: dict[str, Any]) -> str:
    return f"process {found['pid']} on {str(found['host']).partition('/')[0]}"


def _read(storage: Storage) -> dict[str, Any] | None:
    content = storage.read(NAME)
    if content is None:
        return None
    try:
        found = json.loads(content)
        numbers = {name: int(found[name]) for name in ("number", "pid")}
        return {"id": str(found["id"]), "host": str(found["host"])} | numbers
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{storage.uri}/{NAME} must be what a driver wrote, but is not. Remove it if no search runs."
        ) from error

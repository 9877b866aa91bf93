"""An experiment in a storage, worked on in a copy on this host.

The storage is the truth. A driver writes into the copy, and sends what changed before it acts on it; whoever reads
fetches first. Checkpoints are not copied: trials write them to the storage, from every host.

A driver that was cut off may still write when another has taken over, even one file whose sending was under way. So
each driver has a number, and what changes has that number in its name: `trials/00017/DRIVER/metrics.jsonl`. Readers
take the highest. A driver sends all that a trial has under its own number before it goes on with the trial.

The study's journal grows for ever, and a store can only replace whole files, so it is kept in parts:
`study.journal/DRIVER/000017.part`. A driver sends its first part last, when it has sent all that it took over.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder.files import Files, default_cache, write_whole
from mtlsearch.folder.lease import NAME as LEASE
from mtlsearch.folder.lease import Lease, holder_of
from mtlsearch.folder.storage import Entry, Storage, StorageLost, check_usable, unusable

PART_BYTES = 64 * 1024
"""Of the journal. The last part is sent anew with every report, every part is a file to fetch."""

JOURNAL, STOP, DRIVERS = "study.journal", "stop", "drivers.json"

VIEWS = ("leaderboard.csv", "leaderboard.parquet", "status.json", "wandb/sent.json")
"""Files that no decision rests on; they are sent in between, not while a trial waits."""

HOLDER_SECONDS = 2.0
"""How long an answer of who drives is used."""

_SETTLED = 60 * 10**9
"""Nanoseconds after which a file's time tells whether it changed: stores count in seconds, and clocks differ."""

_Stamp = tuple[int, int, int]


class Stored(NamedTuple):
    """A file of the copy, as one driver sent it."""

    name: str
    """In the copy."""
    driver: int
    """0 for what all drivers write alike, or nobody rests on."""

    @property
    def path(self) -> str:
        """In the storage."""
        folder, _, name = self.name.rpartition("/")
        return "/".join(filter(None, (folder, f"{self.driver:05d}", name))) if self.driver else self.name

    @classmethod
    def parse(cls, path: str) -> Stored | None:
        """None for what is no file of the copy."""
        found = _FENCED.fullmatch(path)
        if found is not None:
            folder, driver, name = found.groups(default="")
            return cls(folder + name, int(driver))
        return cls(path, 0) if _is_copied(path) else None

    @classmethod
    def by(cls, driver: int, name: str) -> Stored:
        """What that driver sends."""
        return cls(name, driver if name == DRIVERS or name.startswith("trials/") else 0)


_FENCED = re.compile(r"(trials/\d{5,}/)?(\d{5,})/([^/]+)")


class Part(NamedTuple):
    """Of the journal, by its name's numbers."""

    driver: int
    place: int

    @property
    def name(self) -> str:
        """In the storage."""
        return f"{JOURNAL}/{self.driver:05d}/{self.place:06d}.part"

    @classmethod
    def parse(cls, name: str) -> Part | None:
        """None for another file."""
        parts = name.removesuffix(".part").split("/")
        if len(parts) != 3 or parts[0] != JOURNAL or not (parts[1] + parts[2]).isdecimal():
            return None
        return cls(int(parts[1]), int(parts[2]))


class LocalCopy:
    """The copy on this host of the experiment under one URI.

    Raises:
        ConfigError: the URI is none that can be used; see `Storage`.
    """

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)
        digest = hashlib.sha256(self.storage.uri.encode()).hexdigest()[:12]
        name = self.storage.uri.partition("?")[0].rpartition("/")[2]
        self.path = default_cache() / "experiments" / f"{name}-{digest}"
        self._lease: Lease | None = None
        self._sent: dict[str, _Stamp] = {}
        self._earlier: dict[str, list[str]] = {}
        self._trials: set[int] = set()
        self._driver, self._journal_sent = 0, 0
        self._is_new = False
        self._lost: StorageLost | None = None
        self._turn = threading.Lock()
        self._holder: tuple[float, str | None] = (-HOLDER_SECONDS, None)

    @property
    def uri(self) -> str:
        """Of the experiment."""
        return self.storage.uri

    # For everybody -------------------------------------------------------------------------------------

    def files(self, name: str) -> Files:
        """Of a folder that is used where it is."""
        return self.storage.files(name)

    def holder(self) -> str | None:
        """Who drives the experiment, wherever.

        Raises:
            ConfigError: the storage cannot be used.
        """
        asked, holder = self._holder
        if time.monotonic() - asked > HOLDER_SECONDS:
            with self._asked():
                holder = holder_of(self.storage.hasty())
            self._holder = time.monotonic(), holder
        return holder

    def check_new(self) -> None:
        """Refuses a place where something is, or that cannot be written to.

        Raises:
            ConfigError: it is so.
        """
        with self._asked():
            hasty = self.storage.hasty()
            check_usable(hasty)
            if found := hasty.below():
                instead = f", or go on with `mtlsearch resume {self.uri}`" if "plan.json" in found else ""
                raise ConfigError(f"--out must be a new place, but {self.uri} has files. Choose another{instead}.")

    def begin_new(self) -> None:
        """Makes room for a new experiment on this host; the storage gets it when it is driven."""
        with self._fetching():
            shutil.rmtree(self.path, ignore_errors=True)
        self._is_new = True

    def fetch(self, is_driven: Callable[[], bool]) -> None:
        """Brings the copy up to date.

        Args:
            is_driven: whether a process of this host writes into the copy, which then is newer than the storage.
        Raises:
            ConfigError: there is no experiment, or the storage cannot be used.
        """
        with self._fetching():
            if not is_driven():
                with self._asked():
                    self._fetch(self.storage.hasty())

    def send(self, paths: Iterable[Path]) -> None:
        """What a command wrote into the copy.

        Raises:
            StorageLost: it could not be sent.
        """
        inside = [path for path in paths if path.is_relative_to(self.path)]
        names = [path.relative_to(self.path).as_posix() for path in inside]
        self.storage.together([partial(self._send, name) for name in names])

    def ask_to_stop(self) -> None:
        """Leaves word for the driver, wherever it is.

        Raises:
            ConfigError: the storage cannot be used.
        """
        with self._asked():
            self.storage.hasty().write(STOP, b"")

    # For the driver ------------------------------------------------------------------------------------

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Holds the experiment for this driver, whose host's lock it has; at the end all is in the storage.

        Raises:
            ConfigError: another host drives it, or something is there already.
            MtlsearchError: another driver took over, or the storage is lost.
        """
        self._lease, self._lost = Lease(self.storage), None
        with self._lease.held(self._at_beat):
            self.storage.remove(STOP)
            there = self.storage.below()
            self._driver = max([self._lease.predecessor, *map(_driver_of, there)]) + 1
            self._lease.set_number(self._driver)
            with self._fetching():
                if self._is_new:
                    self._send_new(there)
                else:
                    self._fetch(self.storage)
            self._begin_journal(there)
            try:
                yield
            except StorageLost as error:  # a trial's checkpoint
                self._lost = error
                raise
            finally:
                if self._lost is None:
                    self._send_all()
        self._lease = None

    def push(self, *trials: int, journal_last: bool = False) -> None:
        """Has the storage hold what was written of these trials and of the study, before it is acted on.

        Args:
            journal_last: whether the study waits for the rest. An epoch that the study has and the trial has not is
                told again by whoever takes the trial up; when the trial has ended, nobody does.
        Raises:
            MtlsearchError: another driver took over, or the storage is lost.
        """
        if self._lease is None:
            return
        with self._turn, self._told():
            self._lease.check()
            self._trials.update(trials)
            names = [name for name in self._written(*trials) if name not in VIEWS]
            calls = [partial(self._send, name) for name in names]
            parts = self._parts()
            if journal_last:
                self.storage.together(calls)
                calls = []
            self.storage.together([*calls, *(partial(self.storage.write, *part) for part in parts)])

    # Inside --------------------------------------------------------------------------------------------

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A storage that is lost ends the search; it is not waited for twice."""
        try:
            if self._lost is not None:
                raise self._lost
            yield
        except StorageLost as error:
            self._lost = error
            raise MtlsearchError(f"{error}. When it answers, go on with: mtlsearch resume {self.uri}") from error

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except StorageLost as error:
            raise unusable(self.storage, error) from error

    @contextmanager
    def _fetching(self) -> Iterator[None]:
        """One process at a time brings the copy up to date."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _at_beat(self) -> None:
        """Takes in wishes, and sends what somebody may want to look at."""
        hasty = self.storage.hasty()
        if hasty.entry(STOP) is not None:
            (self.path / STOP).touch()
        self._send_views(hasty)

    def _send_views(self, storage: Storage) -> None:
        for name in VIEWS:
            if (self.path / name).exists():
                if self._is_unsent(name):
                    self._send(name, storage)
            elif self._sent.pop(name, None) is not None:
                storage.remove(name)

    def _send(self, name: str, storage: Storage | None = None) -> None:
        path = self.path / name
        stamp = _stamp(path)  # before it is read: what is written meanwhile is sent next time
        content = path.read_bytes()
        storage = storage or self.storage
        storage.write(Stored.by(self._driver, name).path, content)
        self._sent[name] = stamp
        for earlier in self._earlier.pop(name, ()):
            storage.remove(earlier)

    def _is_unsent(self, name: str) -> bool:
        return self._sent.get(name) != _stamp(self.path / name)

    def _written(self, *trials: int) -> list[str]:
        """Files at the top and of these trials that the storage has not got as they are."""
        folders = [self.path, *(self.path / "trials" / f"{number:05d}" for number in trials)]
        found = [Path(entry.path) for folder in folders if folder.is_dir() for entry in os.scandir(folder)]
        names = [path.relative_to(self.path).as_posix() for path in found if path.is_file()]
        return [name for name in names if _is_copied(name) and self._is_unsent(name)]

    def _parts(self) -> list[tuple[str, bytes]]:
        """The journal's parts that are not in the storage as they are."""
        journal = self.path / JOURNAL
        if not journal.exists() or (size := journal.stat().st_size) == self._journal_sent:
            return []
        first = self._journal_sent // PART_BYTES
        with journal.open("rb") as file:
            file.seek(first * PART_BYTES)
            content = file.read(size - first * PART_BYTES)
        self._journal_sent = size
        pieces = [content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES)]
        return [(Part(self._driver, first + index).name, piece) for index, piece in enumerate(pieces)]

    def _begin_journal(self, there: Iterable[str]) -> None:
        """This driver's own parts, the first one last; only then those before go."""
        self._journal_sent = 0
        parts = self._parts()
        self.storage.together(partial(self.storage.write, *part) for part in parts[1:])
        if parts:
            self.storage.write(*parts[0])
            self.storage.together(partial(self.storage.remove, name) for name in there if Part.parse(name) is not None)

    def _send_new(self, there: Iterable[str]) -> None:
        if set(there) - {LEASE}:
            raise ConfigError(f"--out must be a new place, but {self.uri} has files now. Choose another.")
        names = [name for name in self._written() if name != "plan.json"]
        self.storage.together(partial(self._send, name) for name in names)
        self._send("plan.json")  # last: it makes an experiment of the rest
        self._is_new = False

    def _send_all(self) -> None:
        """What is unsent at the end."""
        self.push(*self._trials)
        with self._told():
            self._send_views(self.storage)

    def _fetch(self, storage: Storage) -> None:
        for _ in range(3):
            try:
                self._fetch_once(storage)
            except FileNotFoundError:  # removed since it was listed, by its driver
                continue
            return
        raise MtlsearchError(f"{self.uri} changes faster than it can be fetched. Try again later.")

    def _fetch_once(self, storage: Storage) -> None:
        there = storage.below()
        if not {"plan.json", "space.yaml"} <= set(there):
            found = "has other files" if set(there) - {LEASE} else "has no files"
            raise ConfigError(f"{self.uri} is no experiment: it {found}. Give the URI that `mtlsearch run --out` had.")
        versions: dict[str, list[Stored]] = {}
        for stored in sorted(filter(None, map(Stored.parse, there)), key=lambda each: each.driver):
            versions.setdefault(stored.name, []).append(stored)
        newest = {name: each[-1] for name, each in versions.items()}
        outdated = [each for each in newest.values() if not _is_same(self.path / each.name, there[each.path])]
        storage.together(partial(self._fetch_file, storage, each, there[each.path]) for each in outdated)
        self._fetch_journal(storage, there)
        (self.path / "trials").mkdir(parents=True, exist_ok=True)
        for path in [path for path in self.path.rglob("*") if path.is_file()]:
            name = path.relative_to(self.path).as_posix()
            if (_is_copied(name) and name not in newest) or name == STOP:
                path.unlink()
        self._sent = {name: _stamp(self.path / name) for name, each in newest.items() if not each.driver}
        self._earlier = {name: [each.path for each in every if each.driver] for name, every in versions.items()}

    def _fetch_file(self, storage: Storage, stored: Stored, entry: Entry) -> None:
        content = storage.read(stored.path)
        if content is None:
            raise FileNotFoundError(stored.path)
        _keep(self.path / stored.name, content, entry.changed)

    def _fetch_journal(self, storage: Storage, there: dict[str, Entry]) -> None:
        parts = readable([part for part in map(Part.parse, there) if part is not None])
        if not parts:
            (self.path / JOURNAL).unlink(missing_ok=True)
            return
        entries = [there[part.name] for part in parts]
        whole = Entry(sum(entry.size for entry in entries), max(entry.changed for entry in entries))
        if _is_same(self.path / JOURNAL, whole):
            return
        found: dict[int, bytes] = {}

        def read(part: Part) -> None:
            if (content := storage.read(part.name)) is None:
                raise FileNotFoundError(part.name)
            found[part.place] = content

        storage.together(partial(read, part) for part in parts)
        _keep(self.path / JOURNAL, joined(found), whole.changed)


def readable(parts: list[Part]) -> list[Part]:
    """Those that make the journal: of the highest driver that wrote its first, as far as none is missing."""
    begun = {part.driver for part in parts if part.place == 0}
    own = sorted(part for part in parts if part.driver == max(begun, default=-1))
    return [part for place, part in enumerate(own) if part.place == place]


def joined(found: dict[int, bytes]) -> bytes:
    """The whole lines of the parts, up to the first part that is not full: the next was sent before it was."""
    whole = b""
    for index in sorted(found):
        whole += found[index]
        if len(found[index]) < PART_BYTES:
            break
    return whole[: whole.rfind(b"\n") + 1]


def _driver_of(path: str) -> int:
    """Of a file in the storage; 0 where it says nothing."""
    part, stored = Part.parse(path), Stored.parse(path)
    return part.driver if part is not None else stored.driver if stored is not None else 0


def _is_copied(name: str) -> bool:
    """Whether a file is the same here and in the storage."""
    parts = name.split("/")
    if parts[0] == "wandb":  # its own files are of one host; what it has confirmed is known everywhere
        return name == "wandb/sent.json"
    if parts[0] in (JOURNAL, LEASE, STOP) or parts[-1].startswith(".") or parts[-1].endswith(".lock"):
        return False
    return not (parts[0] == "trials" and "checkpoint" in parts)


def _is_same(path: Path, entry: Entry) -> bool:
    """Whether the file was fetched as it is now."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    settled = entry.changed < stat.st_ctime_ns - _SETTLED
    return settled and (stat.st_size, stat.st_mtime_ns) == (entry.size, entry.changed)


def _keep(path: Path, content: bytes, changed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    os.utime(path, ns=(changed, changed))


def _stamp(path: Path) -> _Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino

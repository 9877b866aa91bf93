"""A monkey that breaks things while a search runs: what it breaks, and when, is a function of its seed."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from machines import Machines, kill, lives
from tiny_search import EPOCHS, NUM_EPOCHS

from mtlsearch.folder import ExperimentFolder, TrialFolder

Kind = Literal["process", "writing", "node", "driver", "torn", "preempted", "stopped", "frozen"]
"""
process    a trial's process (its only rank) is killed, wherever it is
writing    … while it writes a checkpoint
node       a node is gone at once, another joins
driver     the driver is killed; `mtlsearch resume`
torn       all trials' processes are killed, their newest checkpoints cut in half
preempted  a node is told that it goes in 3 s, and goes; another joins
stopped    `mtlsearch stop`, then `mtlsearch resume`
frozen     a trial's process is stopped as by SIGSTOP; it goes on after half a minute, if nobody ended it
"""

KINDS: tuple[Kind, ...] = get_args(Kind)
EVERY_TIME: tuple[Kind, ...] = ("process", "node", "driver")
"""Every seed has these, and as many of the others as are drawn."""

NUM_DRAWN = 2
PATIENCE = 240.0
"""Seconds without an epoch after which the search is taken to hang."""

NOTICE = 3.0
THAW = 30.0

_ASIDE = re.compile(r"\.\d+-\d+-\d+\.pt\.(\d+)")


@dataclass(frozen=True)
class Fault:
    """What is broken, and when."""

    kind: Kind
    after: int
    """Epochs that the search has measured."""
    pause: float
    """Seconds after that."""


def plan(seed: int) -> list[Fault]:
    """The faults of a seed, in their order. Some follow at once on the one before, into its aftermath."""
    draw = random.Random(seed)
    kinds = [*EVERY_TIME, *draw.choices([kind for kind in KINDS if kind not in EVERY_TIME], k=NUM_DRAWN)]
    draw.shuffle(kinds)
    moments = sorted(draw.randint(1, int(0.8 * NUM_EPOCHS)) for _ in kinds)
    return [Fault(kind, after, draw.uniform(0, 0.3)) for kind, after in zip(kinds, moments, strict=True)]


class Driver:
    """`mtlsearch` in a process of its own; what it prints goes to a file, which its children cannot hold open."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("a") as file:
            command = [sys.executable, "-m", "mtlsearch", *arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        """The end of what it and those before it printed."""
        return self.log.read_text()[-4000:]


@dataclass
class Chaos:
    """What the monkey did, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """Faults for which the search was over too soon, or had nothing to be broken."""
    torn: int = 0
    """Checkpoints cut in half; each costs an epoch that is trained again."""
    seconds: float = 0.0
    seconds_to_end: list[float] = field(default_factory=list)
    """Of each killed driver: until its trials' processes were gone."""
    nodes_given_up: int = 0
    """Nodes that the cluster gave up by itself: an overloaded machine does."""


class Monkey:
    """One disturbed search.

    Args:
        out: the experiment's folder, a new one.
    """

    def __init__(self, machines: Machines, space: Path, out: Path) -> None:
        self._machines, self._space, self._out = machines, space, out
        self._log = out.with_suffix(".log")
        self._driver: Driver | None = None
        self._orphans: list[tuple[float, list[int]]] = []
        self._frozen: list[tuple[float, int]] = []
        self._draw = random.Random()
        self.chaos = Chaos()

    def search(self, faults: list[Fault], seed: int = 0) -> ExperimentFolder:
        """Runs a search to its end, through the faults.

        Raises:
            AssertionError: a driver failed, or nothing went on for minutes.
        """
        self._draw = random.Random(seed)
        start = time.monotonic()
        try:
            self._start("run", str(self._space), "--out", str(self._out))
            for fault in faults:
                self._wait(lambda fault=fault: self._num_epochs() >= fault.after)  # type: ignore[misc]
                self._wait_until(time.monotonic() + fault.pause)
                self._commit(fault.kind)
            self._wait(lambda: False)
            self.chaos.seconds = time.monotonic() - start
            self._wait_for_orphans()
        finally:
            self._clear_up()
        return ExperimentFolder.open(self._out)

    # Waiting -------------------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until then, or until the search is over."""
        seen, since = -1, time.monotonic()
        while self._goes_on() and not condition():
            if (epochs := self._num_epochs()) != seen:
                seen, since = epochs, time.monotonic()
            assert time.monotonic() - since < PATIENCE, f"it hangs:\n{self._now.output}"
            self._look_after()
            time.sleep(0.01)

    def _wait_until(self, moment: float) -> None:
        while time.monotonic() < moment:
            time.sleep(0.005)

    def _goes_on(self) -> bool:
        code = self._now.process.poll()
        assert code in (None, 0), f"mtlsearch ended with {code}:\n{self._now.output}"
        return code is None

    def _look_after(self) -> None:
        """Nodes that were given up are replaced; the frozen thaw; the killed drivers' processes are watched."""
        self.chaos.nodes_given_up += self._machines.mend()
        now = time.monotonic()
        for since, pid in [each for each in self._frozen if now - each[0] > THAW or not lives(each[1])]:
            self._frozen.remove((since, pid))
            kill(pid, signal.SIGCONT)
        for since, pids in [each for each in self._orphans if not any(map(lives, each[1]))]:
            self._orphans.remove((since, pids))
            self.chaos.seconds_to_end.append(now - since)

    def _wait_for_orphans(self) -> None:
        end = time.monotonic() + 60
        while self._orphans or self._frozen:
            assert time.monotonic() < end, f"still there: {self._orphans}"
            self._look_after()
            time.sleep(0.02)

    def _num_epochs(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self._out.glob("trials/*/metrics.jsonl"))

    # Breaking ------------------------------------------------------------------------------------------

    def _commit(self, kind: Kind) -> None:
        breaks: dict[Kind, Callable[[], bool]] = {
            "process": self._kill,
            "writing": self._kill_writing,
            "node": self._lose_node,
            "driver": self._kill_driver,
            "torn": self._tear,
            "preempted": self._preempt,
            "stopped": self._stop,
            "frozen": self._freeze,
        }
        if self._goes_on() and breaks[kind]():
            self.chaos.faults[kind] += 1
        else:
            self.chaos.missed += 1

    def _kill(self) -> bool:
        pid = self._victim()
        return pid is not None and kill(pid)

    def _kill_writing(self) -> bool:
        """Looks for the file that a process writes aside; it names the process."""
        end = time.monotonic() + 10
        while self._goes_on() and time.monotonic() < end:
            places = [trial.checkpoint for trial in self._unfinished()]
            for _ in range(200):
                for place in places:
                    if (pid := _writer(place)) is not None:
                        return kill(pid)
        return self._kill()

    def _lose_node(self) -> bool:
        self._machines.lose(self._draw)
        self._machines.mend()
        return True

    def _kill_driver(self) -> bool:
        """Kills it; its successor starts while its trials may still run."""
        orphans = self._machines.trials()
        kill(self._now.process.pid)
        self._now.process.wait()
        self._orphans.append((time.monotonic(), orphans))
        self._start("resume", str(self._out))
        return True

    def _tear(self) -> bool:
        """Stops them first: a process that went on could write another checkpoint after the cut."""
        if self._victim() is None:
            return False
        pids = [pid for pid in self._machines.trials() if kill(pid, signal.SIGSTOP)]
        for trial in self._unfinished():
            newest = max(trial.checkpoint.glob("*.pt"), default=None)
            if newest is not None and int(newest.name.split("-")[1]) < EPOCHS:  # else it may be the best one, measured
                newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
                self.chaos.torn += 1
        return bool([pid for pid in pids if kill(pid)])

    def _preempt(self) -> bool:
        self._machines.preempt(self._draw, NOTICE)
        self._machines.mend()
        return True

    def _stop(self) -> bool:
        stop = [sys.executable, "-m", "mtlsearch", "stop", str(self._out)]
        asked = subprocess.run(stop, capture_output=True, text=True, check=False)
        if self._now.process.poll() == 0:
            return False
        assert asked.returncode == 0, asked.stdout + asked.stderr
        code = self._now.process.wait(timeout=PATIENCE)
        assert code in (0, 130), f"a stopped search ended with {code}:\n{self._now.output}"
        if code == 130:
            self._start("resume", str(self._out))
        return code == 130

    def _freeze(self) -> bool:
        pid = self._victim()
        if pid is None or not kill(pid, signal.SIGSTOP):
            return False
        self._frozen.append((time.monotonic(), pid))
        return True

    # What there is -------------------------------------------------------------------------------------

    @property
    def _now(self) -> Driver:
        assert self._driver is not None, "a search was started"
        return self._driver

    def _start(self, *arguments: str) -> None:
        self._driver = Driver(self._log, *arguments, "--address", self._machines.address)

    def _victim(self) -> int | None:
        """A trial's process; waits for one while the search goes on."""
        frozen = {pid for _, pid in self._frozen}
        while not (pids := sorted(set(self._machines.trials()) - frozen)):
            if not self._goes_on():
                return None
            time.sleep(0.02)
        return self._draw.choice(pids)

    def _unfinished(self) -> Iterator[TrialFolder]:
        for path in sorted(self._out.glob("trials/*")):
            trial = TrialFolder(path)
            if not trial.metrics.exists() or trial.metrics.read_bytes().count(b"\n") < EPOCHS:
                yield trial

    def _clear_up(self) -> None:
        """Nothing of a search that failed disturbs the next one."""
        if self._driver is not None and self._driver.process.poll() is None:
            self._driver.process.kill()
            self._driver.process.wait()
        for _, pid in self._frozen:
            kill(pid, signal.SIGCONT)


def _writer(place: Path) -> int | None:
    try:
        for path in place.iterdir():
            if (aside := _ASIDE.fullmatch(path.name)) is not None:
                return int(aside[1])
    except FileNotFoundError:
        pass
    return None

"""Weights & Biases while a search runs: one run a trial, its id the experiment's and the trial's.

Runs live in a thread of the driver: starting one costs 0.1 s, and a trial should not wait for it. Without a login
they are written to DIR/wandb; so are those that come after the server has failed once. Whatever goes wrong here is
said once, on standard error, and the search goes on: the folder has everything, `mtlsearch sync DIR` sends the rest.
"""

from __future__ import annotations

import math
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable

from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import Decision, EpochMetrics, TrialOrder, TrialRecord
from mtlsearch.tracking.base import SearchState, Tracker
from mtlsearch.tracking.wandb.left import left_trials, not_mirrored
from mtlsearch.tracking.wandb.run import TrialRun
from mtlsearch.tracking.wandb.sent import Extent, Sent
from mtlsearch.tracking.wandb.session import Mirrored, Mode, resolve_mode, restart, short, silence

FINISH_SECONDS = 15.0
"""Longest that the end of a search waits for W&B; the folder holds everything for a later sync."""

CATCH_UP_SECONDS = 8.0
"""How much of that may pass before the last trial that an earlier driver left is begun."""


class WandbTracker(Tracker):
    """Mirrors every trial as a W&B run.

    Args:
        mirrored: the experiment.
    """

    def __init__(self, mirrored: Mirrored) -> None:
        self._mirrored, self._folder = mirrored, ExperimentFolder(mirrored.folder)
        self._runs: dict[int, TrialRun] = {}
        self._ended: dict[int, Extent] = {}
        self._mode: Mode | None = None
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._broken = self._told = False
        self._catch_up_until = math.inf
        self.outage = False
        """Whether the server has failed: what comes now had better not wait for it."""
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def trial_started(self, order: TrialOrder, flat: dict[str, object]) -> None:
        """Opens the trial's run, or goes on with it."""
        self._jobs.put(lambda: self._start(order, flat))

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """Logs the epoch."""
        self._jobs.put(lambda: self._log(order.number, metrics))

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """Writes the summary and closes the run."""
        self._jobs.put(lambda: self._finish(order.number, record))

    def search_finished(self, state: SearchState) -> None:
        """Closes what is still open, within a deadline; says how to send what was kept offline."""
        self._catch_up_until = time.monotonic() + CATCH_UP_SECONDS
        self._jobs.put(self._close)
        self._jobs.put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self.outage = True
            self._give_up(f"did not finish within {FINISH_SECONDS:g} s")
        elif self._mode == "offline" and not self._told:
            theirs = shlex.quote(str(self._mirrored.files))
            ours = self._mirrored.sync_command()
            _say(f"W&B was offline; send its runs with: {ours} (or: wandb sync {theirs}/offline-run-*)")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._broken:
                continue
            try:
                job()
            except Exception as error:  # noqa: BLE001  # a mirror must not disturb the search, whatever it raises
                self._give_up(f"stopped mirroring this search ({short(error)})")

    def _give_up(self, why: str) -> None:
        self._broken = True
        self._tell(why)

    def _tell(self, why: str) -> None:
        """Once a search, in whatever way and however often it fails."""
        if not self._told:
            self._told = True
            _say(f"W&B {why}; the folder has everything, send the rest with: {self._mirrored.sync_command()}")

    def _start(self, order: TrialOrder, flat: dict[str, object]) -> None:
        if order.number in self._runs:  # taken up again by the same driver: the run is open
            return
        if self._mode is None:
            silence()
            self._mode = resolve_mode(self._mirrored.config.mode)
        try:
            self._runs[order.number] = self._open(order, flat, self._mode)
        except Exception as error:  # whatever a server makes wandb raise
            if self._mode != "online":
                raise
            self._go_offline(error)
            if not self._runs:  # else they would end with it; this trial is in the folder only
                restart()
                self._runs[order.number] = self._open(order, flat, "offline")

    def _open(self, order: TrialOrder, flat: dict[str, object], mode: Mode) -> TrialRun:
        return TrialRun.open(self._mirrored, self._folder.trial(order.number), order, flat, mode)

    def _log(self, number: int, metrics: EpochMetrics) -> None:
        if (run := self._runs.get(number)) is not None:
            run.log(metrics)

    def _finish(self, number: int, record: TrialRecord) -> None:
        if (run := self._runs.pop(number, None)) is None:
            return
        try:
            run.finish(record)
        except TimeoutError as error:
            self._go_offline(error)
        self._ended[number] = Extent(run.logged, record.state, record.reason)

    def _go_offline(self, error: Exception) -> None:
        """For the trials to come: each would wait for the server as long as this one has."""
        self._mode, self.outage = "offline", True
        self._tell(f"does not answer ({short(error)}), new trials are mirrored offline")

    def _close(self) -> None:
        while self._runs:
            _, run = self._runs.popitem()
            try:
                run.leave()
            except TimeoutError as error:
                self._go_offline(error)
        if not self.outage:
            self._catch_up()
        if self._mode == "online" and self._ended:
            self._confirm()

    def _catch_up(self) -> None:
        """Mirrors what an earlier driver, killed in between, has not; in an outage that is left to a later sync."""
        left = left_trials(self._mirrored, self._ended)
        if not left:
            return
        if self._mode is None:
            silence()
        mode = self._mode or resolve_mode(self._mirrored.config.mode)
        if mode == "disabled":
            return
        try:
            left = not_mirrored(self._mirrored, left, mode)
            for done, (number, trial) in enumerate(left.items()):
                if time.monotonic() > self._catch_up_until:
                    self._tell(f"lacks {len(left) - done} trials that ended before this search was resumed")
                    return
                self._mode = mode
                trial.mirror(self._mirrored, mode)
                self._ended[number] = trial.extent
        except Exception as error:  # whatever a server makes wandb raise
            if mode != "online":
                raise
            self._go_offline(error)

    def _confirm(self) -> None:
        """A server that refuses in the middle makes no error: it is asked what it has."""
        try:
            refused = Sent(self._mirrored).confirm(self._ended)
        except Exception as error:  # noqa: BLE001  # whatever a server makes wandb raise
            self.outage = True
            self._tell(f"could not be asked what it has ({short(error)})")
            return
        if refused:
            self._tell(f"has not taken all of {len(refused)} of {len(self._ended)} trials")


def _say(text: str) -> None:
    sys.stderr.write(f"mtlsearch: {text}\n")

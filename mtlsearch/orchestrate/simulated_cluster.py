"""A cluster without machines: trials that replay learning curves, at the times that these took, on a clock that jumps.

What decides is what decides in a real search: the searcher and the scheduler that Tune talks to, the session, the
study and the loggers. Tune's controller and the training are what is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from ray.tune.schedulers import TrialScheduler

from mtlsearch.orchestrate.bridge import Bridge
from mtlsearch.orchestrate.ray_tune import StudyScheduler, StudySearcher
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.trainable import FAILED, ORDER, REPORT
from mtlsearch.records import EpochReport, TrialOrder, json_of


class SimulatedClock:
    """Seconds that pass only when something happens."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass(frozen=True)
class Curve:
    """What a trial reports, epoch by epoch; an epoch takes the seconds that its metrics say."""

    reports: Sequence[EpochReport]
    end: str
    """Why the trial cannot go on after the last of them, if it is let."""


class _Slots(Bridge):
    """Room for a fixed number of trials."""

    def __init__(self, session: Session, slots: int) -> None:
        super().__init__(session, "{}", lambda: slots)
        self._slots = slots

    def _free_workers(self) -> int:
        return self._resources.least_workers if len(self._begun) < self._slots else 0


@dataclass(frozen=True)
class _TuneTrial:
    """Of Tune's trial what our scheduler asks."""

    trial_id: str


class TuneCalls:
    """The calls that Tune's controller makes."""

    def __init__(self, session: Session, slots: int) -> None:
        self._session, self._bridge = session, _Slots(session, slots)
        self._searcher, self._scheduler = StudySearcher(self._bridge), StudyScheduler(self._bridge)

    def suggest(self, name: str) -> str | None:
        """The order of a trial to start now, as JSON.

        Raises:
            MtlsearchError: the search cannot go on.
        """
        if self._session.finished:  # what is left is to score the test split, and no model is there
            return None
        config = self._searcher.suggest(name)
        if self._bridge.error is not None:
            raise self._bridge.error
        return config[ORDER] if isinstance(config, dict) else None

    def report(self, name: str, result: str) -> bool:
        """An epoch's report as JSON; whether the trial ends with it."""
        results = {REPORT: result}
        stops: bool = self._scheduler.on_trial_result(None, _TuneTrial(name), results) == str(TrialScheduler.STOP)
        if stops:
            self._searcher.on_trial_complete(name, results)
        return stops

    def fail(self, name: str, reason: str) -> None:
        """The trial cannot go on."""
        self._searcher.on_trial_complete(name, {FAILED: reason})


def simulate(calls: TuneCalls, slots: int, clock: SimulatedClock, curve_of: Callable[[TrialOrder], Curve]) -> None:
    """Runs trials side by side until there is nothing to start and nothing runs."""
    due: list[tuple[float, int, str, Curve, int]] = []  # when, which start it was, its name, its curve, epochs reported
    starts = 0
    while True:
        while len(due) < slots and (order := calls.suggest(name := f"trial_{starts}")) is not None:
            curve = curve_of(TrialOrder.model_validate_json(order))
            heappush(due, (clock.now + _seconds(curve, 0), starts, name, curve, 0))
            starts += 1
        if not due:
            return
        clock.now, start, name, curve, reported = heappop(due)
        if reported == len(curve.reports):
            calls.fail(name, curve.end)
        elif not calls.report(name, json_of(curve.reports[reported])):
            heappush(due, (clock.now + _seconds(curve, reported + 1), start, name, curve, reported + 1))


def _seconds(curve: Curve, epoch: int) -> float:
    return curve.reports[epoch].metrics.seconds if epoch < len(curve.reports) else 0.0

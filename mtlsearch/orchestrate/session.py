"""One driver's hold on an experiment: the search, its folder and its mirrors. Engines pull orders, push reports."""

from __future__ import annotations

import itertools
import json
import shlex
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mtlsearch.config import Served
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.drivers import DriverClock
from mtlsearch.folder.files import write_whole
from mtlsearch.records import Decision, EpochMetrics, EpochReport, Scores, TrialOrder, TrialRecord
from mtlsearch.report import Leaderboard, read_final, read_leaderboard
from mtlsearch.report.leaderboard import best_epoch
from mtlsearch.search import Earlier, Search, mend, study_of
from mtlsearch.space import Experiment, flatten
from mtlsearch.tracking import SearchState, Tracker

LEADERBOARD_SECONDS = 5.0
LEADERBOARD_REST = 50.0
"""leaderboard.csv is written after a trial at most so often, and in 2 % of the time when it has grown long; it is
a view, the study has everything."""

MOST_STARTS = 1_000_000
"""Of trials, by one driver: the numbers of the next driver's come after."""

TOP_TRIALS = 3
"""Complete trials that the test split is scored for, once, at the end."""


class Session:
    """The search as an engine sees it. Use inside `ExperimentFolder.driven()`.

    Args:
        clock: seconds, of which the wall budget is a number.
    """

    def __init__(
        self,
        experiment: Experiment,
        served: Served,
        folder: ExperimentFolder,
        trackers: Sequence[Tracker],
        earlier: Earlier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.experiment, self.folder = experiment, folder
        self._trackers = trackers
        self._clock = DriverClock(folder, clock)
        mend(folder.journal)
        wall = experiment.budget.wall
        self._search = Search(
            experiment,
            served,
            study_of(folder),
            past=lambda number: folder.trial(number).epochs(),
            seconds_left=None if wall is None else lambda: wall - self._clock.seconds(),
            earlier=lambda: earlier,
        )
        self.ended_finals: deque[TrialOrder] = deque()
        """Final trials that this driver saw complete, to be scored on test soon: a ranking grows seed by seed."""
        self._orders: dict[int, TrialOrder] = {}
        self._last_epochs: dict[int, int] = {}
        self._generations = itertools.count(self._clock.num_drivers * MOST_STARTS)
        self._counts = Counter(record.state for record in self._search.records() if record.role == "trial")
        self._baselines_done = sum(r.role == "baseline" and r.state == "COMPLETE" for r in self._search.records())
        self._finals_done = sum(r.role == "final" and r.state != "RUNNING" for r in self._search.records())
        self._best: TrialRecord | None = None
        self._best_scores: EpochMetrics | None = None
        self._note_best(self._search.best())
        self._next_write = 0.0
        self.folder.push()

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Tells the mirrors when the search begins and ends, in whatever way it ends."""
        for tracker in self._trackers:
            tracker.search_started(self.experiment.name, self.state())
        try:
            yield
        finally:
            self.write_leaderboard()
            self._write_final()
            for tracker in self._trackers:
                tracker.search_finished(self.state())

    @property
    def token(self) -> str:
        """Names this driver; drivers.json holds it."""
        return self._clock.token

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be started."""
        return self._search.finished

    def next(self) -> TrialOrder | None:
        """A trial to start now, with its folder made; None while there is nothing to start."""
        order = self._search.next()
        if order is not None:
            self._orders[order.number] = order
            trial = self.folder.trial(order.number)
            trial.begin(order)
            self._last_epochs[order.number] = max((each.epoch for each in trial.epochs()), default=0)
            flat: dict[str, object] = dict(flatten(order.config))
            for tracker in self._trackers:
                tracker.trial_started(order, flat)
            if (left := self._search.taken_over.get(order.number)) is not None:
                self.restarted(order.number, f"taken over, since nothing is heard from the driver of {left}")
            self.folder.push(order.number)
        return order

    def generation(self) -> int:
        """For the next start of any trial: larger than for every one before, also those of earlier drivers."""
        return next(self._generations)

    def report(self, number: int, report: EpochReport) -> Decision:
        """Takes an epoch; it is in the trial's folder, and what it decides in the study, when this returns.

        An epoch that is there already, which a trial that was taken up again tells of once more, changes nothing.
        """
        metrics, trial = report.metrics, self.folder.trial(number)
        is_new = metrics.epoch > self._last_epochs[number]
        if is_new:
            trial.write_model(report.model)  # first: once the line is there, the epoch is not new any more
            trial.append(metrics)
            self._last_epochs[number] = metrics.epoch
        decision = self._search.report(number, metrics)
        self.folder.push(number, journal_last=decision.stops)
        if is_new:
            for tracker in self._trackers:
                tracker.epoch_finished(self._orders[number], metrics, decision)
        if decision.stops:
            self._ended(number)
        return decision

    def restarted(self, number: int, reason: str) -> None:
        """Tells the mirrors that a trial is taken up again."""
        for tracker in self._trackers:
            tracker.trial_restarted(self._orders[number], reason)

    def fail(self, number: int, reason: str) -> None:
        """Ends a trial that cannot go on."""
        self._search.fail(number, reason)
        self.folder.push(number)
        self._ended(number)

    @property
    def interruption(self) -> str:
        """What is said when somebody stopped the search."""
        return f"stopped. Go on with: mtlsearch resume {shlex.quote(self.folder.name)}"

    @property
    def num_left(self) -> int:
        """Trials that are still to be started, at most."""
        ended = sum(count for state, count in self._counts.items() if state != "RUNNING")
        started = len(self._orders) + self._baselines_done + self._finals_done + ended
        return max(0, self._search.num_trials + self._search.num_baselines + self._search.num_finals - started)

    def untested(self) -> list[TrialOrder]:
        """The top trials, the baselines and the final trials, as far as their test scores are missing."""
        records = self._search.records()
        complete = [record for record in records if record.state == "COMPLETE"]
        ranked = sorted(
            (record for record in complete if record.role == "trial"),
            key=lambda record: (-(record.value or 0.0), record.number),
        )
        rest = [record for record in complete if record.role != "trial"]
        here = (self.folder.trial(record.number) for record in rest + ranked[:TOP_TRIALS] if record.here)
        return [trial.read_order() for trial in here if not trial.test.exists()]

    def keep_test(self, number: int, scores: Scores) -> None:
        """Writes a trial's test scores, once."""
        self._search.keep_test(number, scores)  # first: once the file is there, nobody scores it again
        write_whole(self.folder.trial(number).test, json.dumps(scores, indent=1))
        self.folder.push(number)

    def leaderboard(self) -> Leaderboard:
        """The ranked trials as they stand."""
        return read_leaderboard(self.folder, self._search.records())

    def write_leaderboard(self) -> None:
        """leaderboard.csv and .parquet, as things stand."""
        start = time.monotonic()
        self.leaderboard().write(self.folder)
        end = time.monotonic()
        self._next_write = end + max(LEADERBOARD_SECONDS, LEADERBOARD_REST * (end - start))

    def _write_final(self) -> None:
        """final.json, as far as final trials have been scored."""
        ranking = read_final(self.folder, self._search.records())
        if ranking is not None:
            write_whole(self.folder.final, ranking.json())

    def state(self) -> SearchState:
        """The search at this moment."""
        wall = self.experiment.budget.wall
        return SearchState(
            counts={str(name): count for name, count in self._counts.items()},
            num_trials=self._search.num_trials,
            baselines_done=self._baselines_done,
            num_baselines=self._search.num_baselines,
            finals_done=self._finals_done,
            num_finals=self._search.num_finals,
            best=self._best,
            best_scores=self._best_scores,
            seconds=self._clock.seconds(),
            seconds_left=None if wall is None else max(0.0, wall - self._clock.seconds()),
        )

    def _ended(self, number: int) -> None:
        record, order = self._search.record(number), self._orders.pop(number)
        del self._last_epochs[number]
        if record.role == "baseline":
            self._baselines_done += record.state == "COMPLETE"
        elif record.role == "final":
            self._finals_done += 1
            if record.state == "COMPLETE":
                self.ended_finals.append(order)
        else:
            self._counts[record.state] += 1
            self._note_best(record)
        for tracker in self._trackers:
            tracker.trial_finished(order, record, self.state())
        if time.monotonic() > self._next_write:
            self.write_leaderboard()

    def _note_best(self, record: TrialRecord | None) -> None:
        if record is None or record.state != "COMPLETE" or record.value is None:
            return
        if self._best is None or self._best.value is None or record.value > self._best.value:
            self._best = record
            self._best_scores = best_epoch(self.folder.trial(record.number).epochs())

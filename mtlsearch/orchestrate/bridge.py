"""Between Tune and the search: names of trials there and here, what runs with how much, what follows from faults."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mtlsearch.errors import MtlsearchError
from mtlsearch.orchestrate.faults import Fault
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.trainable import FAILED, ORDER, SETTING, START, TEST, TRACEBACK
from mtlsearch.records import EpochReport, TrialOrder, TrialStart

ROOM_SECONDS = 2.0
"""How long an answer of the cluster's size is used."""

STOP_SECONDS = 30.0
"""How long a search that is asked to stop waits for its trials' checkpoints."""


@dataclass(frozen=True)
class Begun:
    """What one of Tune's trials is for us."""

    order: TrialOrder
    is_test: bool
    """Whether the test split is scored; else the trial is trained."""


class Bridge:
    """Tune's names for trials and ours, the room that the cluster has, and what follows from faults.

    Tune never tries again by itself: a trial that lost its processes is handed out once more, as another trial of
    Tune's, so what it then is given may differ.

    Args:
        session: the search.
        setting: `Setting.json()`.
        room: ranks that fit on the cluster's machines, together.
    """

    def __init__(self, session: Session, setting: str, room: Callable[[], int]) -> None:
        self.session, self.setting = session, setting
        self.error: MtlsearchError | OSError | None = None
        self._room = room
        self._resources = session.experiment.resources
        self._begun: dict[str, Begun] = {}
        self._starts: dict[str, TrialStart] = {}
        self._again: deque[Begun] = deque()
        self._retries: Counter[int] = Counter()
        self._chunks: dict[int, int] = {}
        self._faults: dict[str, Fault] = {}
        self._untested: deque[TrialOrder] | None = None
        self._workers, self._workers_until = 0, 0.0
        self._hung: dict[int, str] = {}
        self._stop_by: float | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune pickles its searcher for a restore that never happens: a resume starts anew over the study."""
        return object, ()

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """What to start now, remembered under Tune's name; None while there is nothing.

        Raises:
            MtlsearchError: the search cannot go on.
        """
        workers = 0 if self._ending else self._free_workers()
        begun = self._next() if workers else None
        if begun is None:
            return None
        most = self._resources.most_workers
        start = TrialStart(
            generation=self.session.generation(),
            workers=workers,
            chunks=self._chunks.get(begun.order.number, 1) * -(-most // workers),  # as much memory as with the most
        )
        self._begun[trial_id], self._starts[trial_id] = begun, start
        return {
            ORDER: begun.order.model_dump_json(),
            SETTING: self.setting,
            START: start.model_dump_json(),
            TEST: begun.is_test,
        }

    def report(self, trial_id: str, report: EpochReport) -> bool:
        """Whether the trial goes on."""
        try:
            if not self.session.report(self._begun[trial_id].order.number, report).stops:
                return True
        except (MtlsearchError, OSError) as error:  # the study is in nobody's reach, or another's; the disk is full
            self.error = error
            return False
        del self._begun[trial_id], self._starts[trial_id]
        return False

    def note(self, trial_id: str, fault: Fault) -> None:
        """Keeps why Tune's trial failed until its end is told: Tune tells the searcher only that it did."""
        self._faults[trial_id] = fault

    def ended(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tune's trial is over. One that the study ended before is not ours any more."""
        begun, start = self._begun.pop(trial_id, None), self._starts.pop(trial_id, None)
        fault = self._faults.pop(trial_id, None)
        if begun is None or start is None or self._ending:  # what is not told stays as it is, for a resume
            return
        number = begun.order.number
        if begun.is_test and TEST in result:
            self.session.keep_test(number, json.loads(result[TEST]))
        elif FAILED in result:
            if TRACEBACK in result:
                self.session.folder.trial(number).error.write_text(result[TRACEBACK])
            self._give_up(begun, result[FAILED])
        else:
            fault = fault or Fault("error", "Tune gave it up without a reason")
            hung = self._hung.pop(start.generation, None)
            if hung is not None and fault.kind not in ("node_lost", "preempted"):  # silent: its node was gone
                fault = Fault("hung", hung)
            self._mend(begun, fault)

    @property
    def finished(self) -> bool:
        """Whether there is nothing to start any more."""
        if self._ending:
            return True
        return self.session.finished and not self._again and self._untested is not None and not self._untested

    @property
    def has_sizes(self) -> bool:
        """Whether trials may have different numbers of workers."""
        return self._resources.least_workers < self._resources.most_workers

    @property
    def ends_now(self) -> bool:
        """Whether what still runs is to be ended: on an error, or when who was asked to leave had time to."""
        if self._stop_by is None:
            return self.error is not None
        return not self._begun or time.monotonic() > self._stop_by

    @property
    def _ending(self) -> bool:
        return self.error is not None or self._stop_by is not None

    # The lookout's thread calls these ----------------------------------------------------------------

    def generations(self) -> dict[int, int]:
        """Trial → generation, of the trials that are trained now."""
        begun, starts = dict(self._begun), dict(self._starts)  # copies: Tune's thread goes on
        both = ((each, starts.get(name)) for name, each in begun.items() if not each.is_test)
        return {each.order.number: start.generation for each, start in both if start is not None}

    def hangs(self, generation: int, reason: str) -> None:
        """The processes of this start were ended, and why."""
        self._hung[generation] = reason

    def stop(self) -> None:
        """Starts nothing more, and gives what runs time to leave."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_SECONDS

    # Inside --------------------------------------------------------------------------------------------

    def _mend(self, begun: Begun, fault: Fault) -> None:
        """Hands the trial out again where that may help."""
        number = begun.order.number
        match fault.kind:
            case "preempted" | "node_lost":
                self._take_up(begun, fault.reason)
            case "out_of_memory" if number not in self._chunks:
                self._chunks[number] = 2
                self._take_up(begun, f"out of memory; now half the batch at a time ({fault.reason})")
            case "out_of_memory":
                self._give_up(begun, f"out of memory, also with half the batch at a time: {fault.reason}")
            case "disk_full":
                self.error = MtlsearchError(
                    f"trial {number} could not write its checkpoint: {fault.reason}. Make room, then go on with: "
                    f"mtlsearch resume {self.session.folder.name}"
                )
            case "storage_lost":
                self.error = MtlsearchError(
                    f"trial {number} could not reach its checkpoints: {fault.reason}. When the storage answers, go on "
                    f"with: mtlsearch resume {self.session.folder.name}"
                )
            case _ if self._retries[number] < self._resources.max_retries:
                self._retries[number] += 1
                self._take_up(begun, f"{fault.reason} (retry {self._retries[number]} of {self._resources.max_retries})")
            case _:
                self._give_up(begun, fault.reason)

    def _take_up(self, begun: Begun, reason: str) -> None:
        self._again.append(begun)
        if not begun.is_test:
            self.session.restarted(begun.order.number, reason)

    def _give_up(self, begun: Begun, reason: str) -> None:
        number = begun.order.number
        if begun.is_test:
            self.error = MtlsearchError(f"trial {number} could not be scored on test ({reason}); resume to try again")
        else:
            self.session.fail(number, reason)

    def _next(self) -> Begun | None:
        """First what was begun already, then test scores, then new trials."""
        if self._again:
            return self._again.popleft()
        if (order := self._next_test()) is not None:
            return Begun(order, is_test=True)
        order = self.session.next()
        return None if order is None else Begun(order, is_test=False)

    def _next_test(self) -> TrialOrder | None:
        """The next trial whose test score is missing: a final one at once, the others after the search. The trials'
        idle processes score it."""
        if self._untested is None and self.session.finished:
            under_way = {begun.order.number for begun in (*self._begun.values(), *self._again) if begun.is_test}
            self._untested = deque(order for order in self.session.untested() if order.number not in under_way)
        waiting = self.session.ended_finals if self._untested is None else self._untested
        return waiting.popleft() if waiting else None

    def _free_workers(self) -> int:
        """Ranks for one more trial; 0 when it does not fit. Tune would ask for one more than fits, before it can know
        the results of those that run.

        As many trials as possible run at once, each with the least workers; where fewer are left, they share what is
        free.
        """
        if time.monotonic() > self._workers_until:  # asking the cluster takes milliseconds
            self._workers = self._room()
            self._workers_until = time.monotonic() + ROOM_SECONDS
        running, most_at_once = self._starts.values(), self._resources.max_concurrent
        free = self._workers - sum(start.workers for start in running)
        least, most = self._resources.least_workers, self._resources.most_workers
        if free < least or (most_at_once is not None and len(running) >= most_at_once):
            return 0
        waiting = max(1, min(free // least, self.session.num_left + len(self._again)))
        return min(most, max(least, free // waiting))

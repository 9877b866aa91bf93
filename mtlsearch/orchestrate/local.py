"""The search in this process, one trial at a time, without Ray: for tests and debugging."""

from __future__ import annotations

import time
import traceback
from contextlib import closing

from mtlsearch.errors import Interrupted, MtlsearchError
from mtlsearch.orchestrate.rank import Rank
from mtlsearch.orchestrate.session import Session
from mtlsearch.records import TrialOrder, TrialStart
from mtlsearch.train.memory import is_out_of_memory

WAIT_SECONDS = 0.5
"""Between two questions whether there is something to start, while another driver of the study trains the baselines."""


def search_locally(session: Session) -> None:
    """Runs every trial that the session hands out, then scores the test split for the best."""
    folder = session.folder
    rank = Rank(session.experiment.data, session.experiment.resources, lambda number: folder.trial(number).checkpoints)
    with closing(rank):
        while not session.finished:
            order = session.next()
            if order is None:
                time.sleep(WAIT_SECONDS)
                continue
            _run(session, rank, order)
            while session.ended_finals:
                _score(session, rank, session.ended_finals.popleft())
        for order in session.untested():
            _score(session, rank, order)


def _score(session: Session, rank: Rank, order: TrialOrder) -> None:
    session.keep_test(order.number, rank.score_test(order))


def _run(session: Session, rank: Rank, order: TrialOrder) -> None:
    """Trains a trial to its end; where memory does not do, once more with half the batch at a time."""
    try:
        _train(session, rank, order, chunks=1)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            _give_up(session, order, error)
            return
        try:
            _train(session, rank, order, chunks=2)
        except (RuntimeError, MemoryError) as again:
            _give_up(session, order, again)


def _train(session: Session, rank: Rank, order: TrialOrder, chunks: int) -> None:
    rank.begin(order, TrialStart(generation=session.generation(), chunks=chunks))
    while True:
        try:
            report = rank.step()
        except MtlsearchError as error:
            session.fail(order.number, str(error))
            return
        assert report is not None, "the only rank is the main one"
        if session.report(order.number, report).stops:
            return
        if session.folder.stop.exists():
            raise Interrupted(session.interruption)


def _give_up(session: Session, order: TrialOrder, error: Exception) -> None:
    """torch's own errors: one bad configuration must not end the search."""
    session.folder.trial(order.number).error.write_text("".join(traceback.format_exception(error)))
    session.fail(order.number, f"{type(error).__name__}: {error}")

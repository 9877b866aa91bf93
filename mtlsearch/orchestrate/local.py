"""The search in this process, one trial at a time, without Ray: for tests and debugging."""

from __future__ import annotations

import traceback
from contextlib import closing

from mtlsearch.errors import MtlsearchError
from mtlsearch.orchestrate.rank import Rank
from mtlsearch.orchestrate.session import Session
from mtlsearch.records import TrialOrder, TrialStart


def search_locally(session: Session) -> None:
    """Runs every trial that the session hands out, then scores the test split for the best."""
    folder = session.folder
    rank = Rank(session.experiment.data, session.experiment.resources, lambda number: folder.trial(number).checkpoints)
    with closing(rank):
        while (order := session.next()) is not None:
            _run(session, rank, order)
            while session.ended_finals:
                _score(session, rank, session.ended_finals.popleft())
        for order in session.untested():
            _score(session, rank, order)


def _score(session: Session, rank: Rank, order: TrialOrder) -> None:
    session.keep_test(order.number, rank.score_test(order))


def _run(session: Session, rank: Rank, order: TrialOrder) -> None:
    rank.begin(order, TrialStart(generation=session.generation()))
    while True:
        try:
            report = rank.step()
        except MtlsearchError as error:
            session.fail(order.number, str(error))
            return
        except RuntimeError as error:  # torch's own errors: one bad configuration must not end the search
            session.folder.trial(order.number).error.write_text(traceback.format_exc())
            session.fail(order.number, f"{type(error).__name__}: {error}")
            return
        assert report is not None, "the only rank is the main one"
        if session.report(order.number, report).stops:
            return

"""The search in this process, one trial at a time, without Ray: for tests and debugging."""

from __future__ import annotations

import traceback

from mtlsearch.errors import ConfigError, TrialFailed
from mtlsearch.orchestrate.rank import Rank
from mtlsearch.orchestrate.session import Session
from mtlsearch.records import TrialOrder


def search_locally(session: Session) -> None:
    """Runs every trial that the session hands out, then scores the test split for the best.

    Raises:
        ConfigError: trials are to have several ranks, which need Ray.
    """
    resources = session.experiment.resources
    if resources.workers_per_trial > 1:
        raise ConfigError(
            f"--engine local trains with one worker, but resources.workers_per_trial is {resources.workers_per_trial}. "
            "Leave --engine out.",
            session.experiment.where("resources", "workers_per_trial"),
        )
    rank = Rank(session.experiment.data, session.folder.path, resources)
    while (order := session.next()) is not None:
        _run(session, rank, order)
    for order in session.untested():
        session.keep_test(order.number, rank.score_test(order))


def _run(session: Session, rank: Rank, order: TrialOrder) -> None:
    try:
        rank.begin(order)
        while True:
            metrics = rank.step()
            assert metrics is not None, "the only rank is the main one"
            if session.report(order.number, metrics).stops:
                return
    except TrialFailed as error:
        session.fail(order.number, str(error))
    except RuntimeError as error:  # torch's own errors: one bad configuration must not end the search
        session.folder.trial(order.number).error.write_text(traceback.format_exc())
        session.fail(order.number, f"{type(error).__name__}: {error}")

"""A study as it is read by who does not write to it, and whether a driver may join it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mtlsearch.errors import ConfigError
from mtlsearch.records import TrialRecord
from mtlsearch.search.attributes import is_own, record_of
from mtlsearch.search.journal import check_lines
from mtlsearch.search.place import Database, StudyPlace

EXPERIMENT = "experiment"
"""User attribute of a study in a database: what its drivers must agree on."""


def read_records(place: StudyPlace) -> list[TrialRecord]:
    """All trials of a study that this experiment started, by number, without becoming its writer.

    Raises:
        ConfigError: the file is damaged, or holds several studies; the database does not answer.
    """
    driver = place if isinstance(place, Database) else None
    return [record_of(trial, driver) for trial in read_trials(place)]


def read_trials(place: StudyPlace) -> list[FrozenTrial]:
    """The same as Optuna has them. Not copies: do not change them.

    Raises:
        ConfigError: the file is damaged, or holds several studies; the database does not answer.
    """
    optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
    if isinstance(place, Database):
        from mtlsearch.search.postgresql import read_study  # SQLAlchemy and psycopg, for those who use them

        trials, _ = read_study(place)
    else:
        trials = _read_journal(place)
    return [trial for trial in trials if is_own(trial)]


def _read_journal(path: Path) -> list[FrozenTrial]:
    if not path.exists():
        return []
    check_lines(path)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    studies = storage.get_all_studies()
    if not studies:
        return []  # the driver has not come to its first trial
    if len(studies) > 1:
        raise ConfigError(f"{path} must hold one study, found {len(studies)}. Restore it, or start anew.")
    return storage.get_all_trials(studies[0]._study_id, deepcopy=False)


def check_study(place: StudyPlace, experiment: Mapping[str, Any]) -> None:
    """Looks whether a search can have its study there, without writing.

    Args:
        experiment: what all drivers of a database must agree on, as far as it is known.
    Raises:
        ConfigError: the database does not answer, or has another experiment's study of this name.
    """
    if not isinstance(place, Database):
        return
    from mtlsearch.search.postgresql import read_study

    trials, attributes = read_study(place)
    if trials or EXPERIMENT in attributes:
        check_agreement(place, attributes.get(EXPERIMENT), experiment)


def check_agreement(place: Database, found: Mapping[str, Any] | None, experiment: Mapping[str, Any]) -> None:
    """Refuses a driver that would search something else.

    Raises:
        ConfigError: with what differs.
    """
    if found is None:
        differ = "was not made by mtlsearch"
    else:
        names = [name for name in experiment if found.get(name) != experiment[name]]
        if not names:
            return
        differ = f"is another experiment's, which differs in {', '.join(names)}"
    raise ConfigError(
        f"all drivers of a study must do the same search, but the study {place.study!r} in {place.url} {differ}. "
        "Run the same space file, or take another name with --set name=NAME."
    )

"""The Optuna study behind a search, as its driver writes to it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from mtlsearch.search.database import DatabaseStorage

from mtlsearch.folder.storage import Place
from mtlsearch.records import Scores, TrialRecord
from mtlsearch.search.attributes import (
    BASELINE,
    DRIVER,
    FINAL,
    IMPORTED,
    OUTCOME,
    TEST,
    Again,
    is_apart,
    is_here,
    is_own,
    record_of,
)
from mtlsearch.search.history import History, Kept, Tally, history_of
from mtlsearch.search.journal import AtomicJournal, StudyJournal
from mtlsearch.search.place import Database, StudyPlace
from mtlsearch.search.reading import EXPERIMENT, check_agreement

T = TypeVar("T")


class SearchStudy(optuna.Study):
    """A study whose samplers and pruners see the search's trials only.

    Every look at a study's trials by Optuna's samplers and pruners goes through the methods overridden here.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._kept = Kept[Tally]()

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy=deepcopy, states=states, use_cache=use_cache)
        return [trial for trial in trials if not is_apart(trial)]

    def _get_best_trial(self, deepcopy: bool) -> FrozenTrial:
        best = self.tally().best
        if best is None:
            raise ValueError("no trial is complete")
        return copy.deepcopy(best) if deepcopy else best

    def _pop_waiting_trial_id(self) -> int | None:
        return super()._pop_waiting_trial_id() if self.tally().waiting else None

    @property
    def history(self) -> History | None:
        """The trials as they change, where the storage tells."""
        return getattr(self._storage, "history", None)

    def tally(self) -> Tally:
        """How many trials there are, as samplers and pruners see them."""
        if (history := history_of(self)) is not None:
            return self._kept.over(history, lambda: Tally(is_own))
        tally = Tally(is_own)
        for trial in self._get_trials(deepcopy=False):
            tally.changed(None, trial)
        return tally

    def all_trials(self) -> list[FrozenTrial]:
        """With baselines and final trials, in the order of their numbers. Not copies: do not change them."""
        return super()._get_trials(deepcopy=False)


class OpenStudy:
    """A study as a driver writes to it: the only one of a journal, or one of several of a database.

    Args:
        experiment: what all drivers of a database must agree on.
    """

    def __init__(
        self,
        place: StudyPlace,
        name: str,
        sampler: BaseSampler,
        pruner: optuna.pruners.BasePruner,
        experiment: Mapping[str, Any],
    ) -> None:
        optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
        self._driver = place if isinstance(place, Database) else None
        self._storage = _storage(place)
        self.study = self.transact(lambda: _open(self._storage, name, sampler, pruner))
        if isinstance(place, Database):
            self.transact(lambda: self._agree(place, experiment))

    def transact(self, work: Callable[[], T]) -> T:
        """What the work writes to the study is stored whole or not at all. The work may have to be done again: but for
        the study, it must leave everything as it was."""
        return self._storage.transact(work)

    def _agree(self, place: Database, experiment: Mapping[str, Any]) -> None:
        found = self._storage.get_study_user_attrs(self.study._study_id).get(EXPERIMENT)
        if found is None and not self.all_trials():
            self._storage.set_study_user_attr(self.study._study_id, EXPERIMENT, experiment)
        else:
            check_agreement(place, found, experiment)

    def all_trials(self) -> list[FrozenTrial]:
        """By number. Not copies: do not change them."""
        return self.study.all_trials()

    def apart(self) -> list[FrozenTrial]:
        """The baselines and final trials, by number. Not copies: do not change them."""
        return list(self._storage.history.apart.values())

    def is_mine(self, trial: FrozenTrial) -> bool:
        """Whether this driver, or one before it over the same folder, has the trial."""
        return is_here(trial, self._driver)

    def record(self, trial: FrozenTrial) -> TrialRecord:
        """The trial as the rest of the program knows it."""
        return record_of(trial, self._driver)

    def keep_test(self, number: int, scores: Scores) -> None:
        """Lets the other drivers know the trial's test scores."""
        if self._driver is not None:
            self.transact(lambda: self._database.annotate(self.trial(number)._trial_id, TEST, scores))

    def take_over(self) -> tuple[FrozenTrial, str] | None:
        """A trial of a driver that is gone, from now on this one's, and the folder that it was in; None where there is
        none. That driver's processes cannot write to the study any more. Inside a transaction."""
        left = self.left_behind()
        if not left:
            return None
        trial, driver = left[0], left[0].user_attrs[DRIVER]
        if not self._database.bury(driver["id"]):
            return None
        for attribute, value in self._stamp.items():
            self._storage.set_trial_user_attr(trial._trial_id, attribute, value)
        return self.trial(trial.number), driver["folder"]

    def left_behind(self) -> list[FrozenTrial]:
        """Running trials of drivers that are gone, as far as is known."""
        elsewhere = self._running_elsewhere()
        return [trial for trial in elsewhere if self._database.heartbeat.is_silent(trial.user_attrs[DRIVER]["id"])]

    @property
    def moment(self) -> int:
        """For `others_live`."""
        return 0 if self._driver is None else self._database.heartbeat.count

    def others_live(self, since: int) -> bool:
        """Whether every other driver that has running trials is known to have lived after that moment."""
        drivers = {trial.user_attrs[DRIVER]["id"] for trial in self._running_elsewhere()}
        return all(self._database.heartbeat.was_heard(driver, since) for driver in drivers)

    def _running_elsewhere(self) -> list[FrozenTrial]:
        if self._driver is None:
            return []
        running = (trial for trial in self.all_trials() if trial.state == TrialState.RUNNING)
        return [trial for trial in running if DRIVER in trial.user_attrs and not self.is_mine(trial)]

    @property
    def _database(self) -> DatabaseStorage:
        assert not isinstance(self._storage, StudyJournal), "the study has one driver"
        return self._storage

    def create_baseline(self, task: str) -> FrozenTrial:
        """A RUNNING trial that no sampler has a hand in."""
        return self._create({BASELINE: task})

    def create_final(self, again: Again) -> FrozenTrial:
        """A RUNNING trial that no sampler has a hand in."""
        return self._create({FINAL: asdict(again)})

    def _create(self, user_attrs: dict[str, Any]) -> FrozenTrial:
        template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=user_attrs | self._stamp)
        return self._storage.get_trial(self._storage.create_new_trial(self.study._study_id, template_trial=template))

    @property
    def _stamp(self) -> dict[str, Any]:
        if self._driver is None:
            return {}
        return {DRIVER: {"id": self._driver.driver, "folder": self._driver.folder}}

    def ask(self) -> optuna.Trial:
        """A new trial, without parameters yet; what was enqueued comes first."""
        trial = self.study.ask()
        for attribute, value in self._stamp.items():
            self._storage.set_trial_user_attr(trial._trial_id, attribute, value)
        return trial

    def add_imported(self, folder: Place, record: TrialRecord, ranges: Mapping[str, BaseDistribution]) -> None:
        """Adds an ended trial of an earlier search."""
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState[record.state],
                value=record.value,
                params=dict(record.params),
                distributions={name: ranges[name] for name in record.params},
                intermediate_values=dict(record.intermediate),
                user_attrs={IMPORTED: {"folder": str(folder), "trial": record.number}, OUTCOME: record.reason},
            )
        )

    def trial(self, number: int) -> FrozenTrial:
        """A trial as it stands. Not a copy: do not change it."""
        storage = self._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    def note(self, trial: FrozenTrial, attribute: str, value: str | float) -> None:
        """Stores a user attribute of the trial."""
        self._storage.set_trial_user_attr(trial._trial_id, attribute, value)

    def report(self, trial: FrozenTrial, epoch: int, value: float) -> None:
        """Stores an intermediate value."""
        self._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def should_prune(self, trial: FrozenTrial) -> bool:
        """Asks the pruner, once per report: it may note what it answered."""
        return self.study.pruner.prune(self.study, self.trial(trial.number))

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None, reason: str) -> None:
        """Ends a trial; a PRUNED one keeps its last intermediate value, which Optuna looks up itself."""
        self.note(trial, OUTCOME, reason)
        self.study.tell(trial.number, value, state=state)


def _storage(place: StudyPlace) -> StudyJournal | DatabaseStorage:
    if isinstance(place, Path):
        return StudyJournal(AtomicJournal(place), is_apart)
    from mtlsearch.search.database import DatabaseStorage

    return DatabaseStorage(place, is_apart)


def _open(
    storage: optuna.storages.BaseStorage, name: str, sampler: BaseSampler, pruner: optuna.pruners.BasePruner
) -> SearchStudy:
    if name not in {frozen.study_name for frozen in storage.get_all_studies()}:
        storage.create_new_study([StudyDirection.MAXIMIZE], name)
    arguments: dict[str, Any] = {"sampler": sampler, "pruner": pruner}
    return SearchStudy(study_name=name, storage=storage, **arguments)

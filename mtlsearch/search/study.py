"""The Optuna study behind a search, and how our trials are written down in it.

Single-task baselines are trials of the same study: COMPLETE, without parameters, with the user attribute
`baseline` = task. So are the trials of the final ranking, with `final` = what is trained again. Samplers and pruners
never see them; whoever opens the journal does. With trials of an earlier search, `imported`, it is the other way
round: samplers and pruners know them, but they are no trials of this experiment.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mtlsearch.errors import ConfigError
from mtlsearch.records import Role, State, TrialRecord
from mtlsearch.search.journal import AtomicJournal, check_lines

BASELINE = "baseline"
"""User attribute of a single-task baseline: its task."""
SCORE = "score"
"""User attribute of a finished baseline: the best validation value of its task's main metric."""
FINAL = "final"
"""User attribute of a final trial: its candidate or its task, and its repeat."""
IMPORTED = "imported"
"""User attribute of an earlier search's trial: that search's folder and the trial's number there."""
OUTCOME = "outcome"
"""User attribute of every finished trial: why it ended."""


@dataclass(frozen=True)
class Again:
    """What one trial of the final ranking trains again: a candidate's configuration, or a task's baseline."""

    candidate: int | None
    task: str | None
    repeat: int


def is_apart(trial: FrozenTrial) -> bool:
    """Whether no sampler or pruner is to know of a trial."""
    return BASELINE in trial.user_attrs or FINAL in trial.user_attrs


def again_of(trial: FrozenTrial) -> Again | None:
    """What a final trial trains again; None for any other."""
    return Again(**trial.user_attrs[FINAL]) if FINAL in trial.user_attrs else None


def task_of(trial: FrozenTrial) -> str | None:
    """The task of a single-task baseline, also of one in the final ranking."""
    again = again_of(trial)
    return again.task if again is not None else trial.user_attrs.get(BASELINE)


class SearchStudy(optuna.Study):
    """A study whose samplers and pruners see the search's trials only.

    Every look at a study's trials by Optuna's samplers and pruners goes through the methods overridden here.
    """

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(deepcopy=deepcopy, states=states, use_cache=use_cache)
        return [trial for trial in trials if not is_apart(trial)]

    def _get_best_trial(self, deepcopy: bool) -> FrozenTrial:
        complete = self._get_trials(deepcopy=deepcopy, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("no trial is complete")
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    def all_trials(self) -> list[FrozenTrial]:
        """With baselines and final trials, in the order of their numbers. Not copies: do not change them."""
        return super()._get_trials(deepcopy=False)


class StudyFile:
    """A study in a journal file, opened by the one driver that may write to it."""

    def __init__(self, path: Path, name: str, sampler: BaseSampler, pruner: optuna.pruners.BasePruner) -> None:
        optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
        self._journal = AtomicJournal(path)
        storage = optuna.storages.JournalStorage(self._journal)
        with self.transaction():
            self.study = _open(storage, name, sampler, pruner)
        self._ids: dict[int, int] = {trial.number: trial._trial_id for trial in self.study.all_trials()}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written to the study inside reaches the disk whole or not at all."""
        with self._journal.transaction():
            yield

    def create_baseline(self, task: str) -> FrozenTrial:
        """A RUNNING trial that no sampler has a hand in."""
        return self._create({BASELINE: task})

    def create_final(self, again: Again) -> FrozenTrial:
        """A RUNNING trial that no sampler has a hand in."""
        return self._create({FINAL: asdict(again)})

    def _create(self, user_attrs: dict[str, Any]) -> FrozenTrial:
        storage, study_id = self.study._storage, self.study._study_id
        template = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=user_attrs)
        return storage.get_trial(storage.create_new_trial(study_id, template_trial=template))

    def add_imported(self, folder: Path, record: TrialRecord, ranges: Mapping[str, BaseDistribution]) -> None:
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
        if number not in self._ids:
            self._ids = {trial.number: trial._trial_id for trial in self.study.all_trials()}
        return self.study._storage.get_trial(self._ids[number])

    def note(self, trial: FrozenTrial, attribute: str, value: str | float) -> None:
        """Stores a user attribute of the trial."""
        self.study._storage.set_trial_user_attr(trial._trial_id, attribute, value)

    def report(self, trial: FrozenTrial, epoch: int, value: float) -> None:
        """Stores an intermediate value."""
        self.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, value)

    def should_prune(self, trial: FrozenTrial) -> bool:
        """Asks the pruner, once per report: it may note what it answered."""
        return self.study.pruner.prune(self.study, self.trial(trial.number))

    def tell(self, trial: FrozenTrial, state: TrialState, value: float | None, reason: str) -> None:
        """Ends a trial; a PRUNED one keeps its last intermediate value, which Optuna looks up itself."""
        self.note(trial, OUTCOME, reason)
        self.study.tell(trial.number, value, state=state)


def is_own(trial: FrozenTrial) -> bool:
    """Whether this experiment started the trial: not one that waits, not an earlier search's."""
    return trial.state != TrialState.WAITING and IMPORTED not in trial.user_attrs


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The trial as the rest of the program knows it."""
    again = again_of(trial)
    role: Role = "final" if again is not None else "baseline" if BASELINE in trial.user_attrs else "trial"
    state: State = trial.state.name  # type: ignore[assignment]  # WAITING trials are never handed out
    return TrialRecord(
        number=trial.number,
        role=role,
        state=state,
        params=dict(trial.params),
        value=trial.value,
        reason=trial.user_attrs.get(OUTCOME, ""),
        task=task_of(trial),
        candidate=again.candidate if again is not None else None,
        repeat=again.repeat if again is not None else 0,
        intermediate=dict(trial.intermediate_values),
    )


def read_records(path: Path) -> list[TrialRecord]:
    """All trials of a journal that this experiment started, by number, without becoming its writer.

    Raises:
        ConfigError: the file is damaged, or holds several studies.
    """
    return [record_of(trial) for trial in read_trials(path)]


def read_trials(path: Path) -> list[FrozenTrial]:
    """The same as Optuna has them. Not copies: do not change them.

    Raises:
        ConfigError: the file is damaged, or holds several studies.
    """
    if not path.exists():
        return []
    check_lines(path)
    optuna.logging.get_logger("optuna").setLevel(logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    studies = storage.get_all_studies()
    if not studies:
        return []  # the driver has not come to its first trial
    if len(studies) > 1:
        raise ConfigError(f"{path} must hold one study, found {len(studies)}. Restore it, or start anew.")
    trials = storage.get_all_trials(studies[0]._study_id, deepcopy=False)
    return [trial for trial in trials if is_own(trial)]


def _open(
    storage: optuna.storages.BaseStorage, name: str, sampler: BaseSampler, pruner: optuna.pruners.BasePruner
) -> SearchStudy:
    if name not in {frozen.study_name for frozen in storage.get_all_studies()}:
        storage.create_new_study([StudyDirection.MAXIMIZE], name)
    arguments: dict[str, Any] = {"sampler": sampler, "pruner": pruner}
    return SearchStudy(study_name=name, storage=storage, **arguments)

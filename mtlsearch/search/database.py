"""An Optuna study in PostgreSQL, in Optuna's own tables, that several drivers work on and that outlives its server.

Optuna's `RDBStorage` commits every parameter, attribute and value by itself. Here `transact` makes of all that one
question to the search writes one transaction: on disk whole, or not at all. Drivers take turns, by an advisory lock
on the study that a transaction holds, and each turn begins with what the others have changed. So a question costs
the same however many trials there are, and what is not changed is read from memory.

Two small tables of ours stand beside Optuna's: which trial was changed when, and the number of each driver's last
transaction beside its heartbeat. With that number, a transaction whose commit was cut off is known to have happened
or not. A driver whose trials were taken over finds its row to be nobody's, and ends.
"""

from __future__ import annotations

import copy
import json
import time
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from mtlsearch.errors import MtlsearchError
from mtlsearch.search import rows
from mtlsearch.search.heartbeat import GONE, Heartbeat
from mtlsearch.search.history import History
from mtlsearch.search.place import Database
from mtlsearch.search.postgresql import CHANGES, DRIVERS, is_outage, lock, open_rdb, reached, reason

PATIENCE_SECONDS = 300.0
"""How long a database that is gone is waited for, before the search ends; it can be resumed then."""

LONGEST_PAUSE = 5.0
"""Seconds between two attempts, at most."""

T = TypeVar("T")


@dataclass
class _Turn:
    """One transaction over all its attempts."""

    number: int
    result: Any = None
    """What the last attempt came to that went as far as its commit."""


class DatabaseStorage(BaseStorage):
    """One study, for one driver. It is written to inside `transact` only, and read from memory.

    Args:
        is_apart: whether no sampler or pruner is to know of a trial.
    Raises:
        ConfigError: the database does not answer or refuses, or its tables are another Optuna's.
    """

    def __init__(self, place: Database, is_apart: Callable[[FrozenTrial], bool]) -> None:
        self.history = History()
        self._place, self._process, self._is_apart = place, uuid.uuid4().hex, is_apart
        self._rdb = open_rdb(place)
        self._open: sa.Connection | None = None
        self._turn = _Turn(0)
        self._study_id = -1
        self._trials: list[FrozenTrial] = []
        self._numbers: dict[int, int] = {}  # by Optuna's id of the trial
        self._seen = 0  # the newest change that is known
        self._undo: dict[int, FrozenTrial | None] = {}
        reached(place, self._enter)
        self.heartbeat = Heartbeat(place, self._study_id, self._process)
        weakref.finalize(self, _leave, self.heartbeat, self._rdb.engine)
        self.heartbeat.start()

    # Turns ---------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[], T]) -> T:
        """Does the work in one transaction, and again from its start while the database is away.

        The work may read and write the study; of what it does beside that, it must be able to do it twice.

        Raises:
            MtlsearchError: the database was away for too long, or another process goes on with this driver's folder.
        """
        assert self._open is None, "transactions do not nest"
        self._turn = _Turn(self._turn.number + 1)
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
        while True:
            try:
                result: T = self._attempt(work)
                return result
            except sa.exc.SQLAlchemyError as error:
                if not is_outage(error):
                    raise
                self._rdb.engine.dispose()
                if time.monotonic() > deadline:
                    raise MtlsearchError(
                        f"the study's database did not answer for {PATIENCE_SECONDS:.0f} seconds "
                        f"({reason(error)}). Everything that was decided is kept; resume when it is back."
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, work: Callable[[], Any]) -> Any:
        try:
            with self._rdb.engine.begin() as connection:
                lock(connection, self._place.study)
                committed = self._last_transaction(connection)
                self._refresh(connection)
                if committed < self._turn.number:
                    self._open = connection
                    self._turn.result = work()
                    self._write_down(connection)
            self._seen += bool(self._undo)
            self._undo.clear()
        finally:
            self._open = None
            self._roll_back()
        return self._turn.result

    def _last_transaction(self, connection: sa.Connection) -> int:
        """The number of this driver's last one that was committed."""
        row = connection.execute(
            sa.select(DRIVERS.c.process, DRIVERS.c.transaction).where(*self._own_row)
        ).one_or_none()
        if row is not None and row.process == GONE:
            raise MtlsearchError(
                f"nothing was heard from the driver of {self._place.folder} for some time, so another one has taken "
                "its trials over, and this one ends. Its folder can take part again: mtlsearch resume."
            )
        if row is None or row.process != self._process:
            raise MtlsearchError(
                f"another process goes on with {self._place.folder}, so this one ends: the study is no longer its own."
            )
        return int(row.transaction)

    @property
    def _own_row(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (DRIVERS.c.study_id == self._study_id, DRIVERS.c.driver == self._place.driver)

    def bury(self, driver: str) -> bool:
        """Lets the process of another driver that is silent write no more; inside a transaction only.

        Returns:
            Whether that is so; not when the driver was resumed since.
        """
        silent = DRIVERS.c.process.in_((self.heartbeat.process_of(driver), GONE))
        row = (DRIVERS.c.study_id == self._study_id, DRIVERS.c.driver == driver, silent)
        return bool(self._inside.execute(sa.update(DRIVERS).where(*row).values(process=GONE)).rowcount)

    def _write_down(self, connection: sa.Connection) -> None:
        """Says what this transaction has changed, and that it is over."""
        if not self._undo:
            return
        new = insert(CHANGES).values(
            [
                {"trial_id": self._trials[number]._trial_id, "study_id": self._study_id, "revision": self._seen + 1}
                for number in self._undo
            ]
        )
        connection.execute(
            new.on_conflict_do_update(index_elements=["trial_id"], set_={"revision": new.excluded.revision})
        )
        connection.execute(sa.update(DRIVERS).where(*self._own_row).values(transaction=self._turn.number))

    def _roll_back(self) -> None:
        """Makes memory what it was before a transaction that was not committed, as far as is known."""
        for number in sorted(self._undo, reverse=True):
            before = self._undo[number]
            if before is not None:
                self._trials[number] = before
            else:
                del self._numbers[self._trials.pop()._trial_id]
        if self._undo:  # whoever keeps an index of the trials makes a new one over a new history
            self.history = History()
            for trial in self._trials:
                self._tell(trial)
        self._undo.clear()

    def _tell(self, trial: FrozenTrial) -> None:
        if self._is_apart(trial):
            self.history.apart[trial.number] = trial
        else:
            self.history.changed(trial)

    def _refresh(self, connection: sa.Connection) -> None:
        """Reads the trials that were changed since this driver's last turn."""
        changes = sa.select(CHANGES.c.trial_id, CHANGES.c.revision).where(
            CHANGES.c.study_id == self._study_id, CHANGES.c.revision > self._seen
        )
        last = self._trials[-1]._trial_id if self._trials else -1
        added = sa.select(models.TrialModel.trial_id, sa.literal(0)).where(  # also by whoever knows nothing of us
            models.TrialModel.study_id == self._study_id, models.TrialModel.trial_id > last
        )
        found = connection.execute(sa.union_all(changes, added)).all()
        for trial in self._read(connection, {trial_id for trial_id, _ in found}):
            assert trial.number <= len(self._trials), f"the study has no trial {len(self._trials)}"
            self._trials[trial.number : trial.number + 1] = [trial]
            self._numbers[trial._trial_id] = trial.number
            self._tell(trial)
        self._seen = max([self._seen, *(revision for _, revision in found)])

    def _read(self, connection: sa.Connection, trial_ids: set[int]) -> Iterable[FrozenTrial]:
        if not trial_ids:
            return []
        model = models.TrialModel
        parts = (model.params, model.values, model.user_attributes, model.system_attributes, model.intermediate_values)
        query = (
            sa.select(model)
            .options(*(selectinload(part) for part in parts))
            .where(model.trial_id.in_(trial_ids) if self._trials else model.study_id == self._study_id)
            .order_by(model.trial_id)
        )
        with Session(connection, join_transaction_mode="rollback_only") as session:
            return [self._rdb._build_frozen_trial_from_trial_model(each) for each in session.scalars(query)]

    def _enter(self) -> None:
        """Finds the study or makes it, and takes this driver's place from whoever had it."""
        with self._rdb.engine.begin() as connection:
            lock(connection, self._place.study)
            self._study_id = rows.study_id(connection, self._place.study)
            row = {"process": self._process, "transaction": 0}
            driver = insert(DRIVERS).values(study_id=self._study_id, driver=self._place.driver, **row)
            connection.execute(driver.on_conflict_do_update(index_elements=["study_id", "driver"], set_=row))
            self._refresh(connection)

    # What Optuna reads: from memory --------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Not a copy: a change makes a new one."""
        return self._trials[self._numbers[trial_id]]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """By number."""
        trials = self._trials if states is None else [trial for trial in self._trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else list(trials)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Optuna's id of a trial."""
        if trial_number >= len(self._trials):
            raise KeyError(f"the study has no trial {trial_number}")
        return self._trials[trial_number]._trial_id

    def get_study_id_from_name(self, study_name: str) -> int:
        """Of the one study."""
        assert study_name == self._place.study
        return self._study_id

    def get_study_name_from_id(self, study_id: int) -> str:
        """Of the one study."""
        return self._place.study

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """One objective, maximised."""
        return [StudyDirection.MAXIMIZE]

    def get_all_studies(self) -> list[FrozenStudy]:
        """The one study, without its attributes."""
        return [
            FrozenStudy(
                study_name=self._place.study,
                direction=StudyDirection.MAXIMIZE,
                user_attrs={},
                system_attrs={},
                study_id=self._study_id,
            )
        ]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Inside a transaction only."""
        return self._study_attrs(models.StudyUserAttributeModel)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Inside a transaction only."""
        return self._study_attrs(models.StudySystemAttributeModel)

    def _study_attrs(self, model: Any) -> dict[str, Any]:
        return rows.study_attributes(self._inside, model, self._study_id)

    # What Optuna writes: into the transaction, and a new trial into memory -------------------------------

    @property
    def _inside(self) -> sa.Connection:
        assert self._open is not None, "the study is written to inside of `transact` only"
        return self._open

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """The next number; no other driver can take it, since this one has the lock."""
        trial = copy.deepcopy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        trial.number = len(self._trials)
        trial._trial_id = rows.add_trial(self._inside, self._study_id, trial)
        self._trials.append(trial)
        self._numbers[trial._trial_id] = trial.number
        self._undo[trial.number] = None
        self._tell(trial)
        return trial._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Optuna's."""
        trial = self._updatable(trial_id)
        rows.put_param(self._inside, trial_id, param_name, param_value_internal, distribution)
        self._change(
            trial_id,
            params={**trial.params, param_name: distribution.to_external_repr(param_value_internal)},
            distributions={**trial.distributions, param_name: distribution},
        )

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's; False where a trial that is to be started runs already."""
        before = self._updatable(trial_id).state
        if state == TrialState.RUNNING and before != TrialState.WAITING:
            return False
        changes: dict[str, Any] = {"state": state}
        if state == TrialState.RUNNING:
            changes["datetime_start"] = datetime.now()
        if state.is_finished():
            changes["datetime_complete"] = datetime.now()
        rows.put_state(self._inside, trial_id, changes, values or ())
        self._change(trial_id, **changes, **({} if values is None else {"values": list(values)}))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Optuna's."""
        values = self._updatable(trial_id).intermediate_values
        rows.put_intermediate(self._inside, trial_id, step, intermediate_value)
        self._change(trial_id, intermediate_values={**values, step: intermediate_value})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._updatable(trial_id)
        self.annotate(trial_id, key, value)

    def annotate(self, trial_id: int, key: str, value: Any) -> None:
        """Sets a user attribute also of a trial that has ended, which Optuna does not let one do."""
        attributes = self.get_trial(trial_id).user_attrs
        rows.put_user_attribute(self._inside, trial_id, key, value)
        self._change(trial_id, user_attrs={**attributes, key: json.loads(json.dumps(value))})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        attributes = self._updatable(trial_id).system_attrs
        rows.put_system_attribute(self._inside, trial_id, key, value)
        self._change(trial_id, system_attrs={**attributes, key: json.loads(json.dumps(value))})

    def _updatable(self, trial_id: int) -> FrozenTrial:
        """As it is in the database now: the lock is this driver's."""
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        return trial

    def _change(self, trial_id: int, **changes: Any) -> None:
        """Puts a copy in the trial's place; whoever holds the trial as it was keeps that."""
        number = self._numbers[trial_id]
        self._undo.setdefault(number, self._trials[number])
        trial = copy.copy(self._trials[number])
        for name, value in changes.items():
            setattr(trial, name, value)
        self._trials[number] = trial
        self._tell(trial)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        rows.put_study_attribute(self._inside, models.StudyUserAttributeModel, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        rows.put_study_attribute(self._inside, models.StudySystemAttributeModel, study_id, key, value)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> NoReturn:
        """Never: the study is there."""
        raise AssertionError("the study is made when its database is opened")

    def delete_study(self, study_id: int) -> NoReturn:
        """Never."""
        raise AssertionError("a search does not delete its study")


def _leave(heartbeat: Heartbeat, engine: sa.Engine) -> None:
    heartbeat.stop()
    engine.dispose()

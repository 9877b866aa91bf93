"""An Optuna study in PostgreSQL, in Optuna's own tables, that several drivers work on and that outlives its server.

Optuna's `RDBStorage` commits every parameter, attribute and value by itself. Here `transact` makes of all that one
question to the search writes one transaction: on disk whole, or not at all. Drivers take turns, by an advisory lock
on the study that a transaction holds, and each turn begins with what the others have changed. So a question costs
the same however many trials there are, and what is not changed is read from memory.

Two small tables of ours stand beside Optuna's: which trial was changed when, and the number of each driver's last
transaction. With that number, a transaction whose commit was cut off is known to have happened or not.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.search.history import History
from mtlsearch.search.place import Database

PATIENCE_SECONDS = 300.0
"""How long a database that is gone is waited for, before the search ends; it can be resumed then."""

LONGEST_PAUSE = 5.0
"""Seconds between two attempts, at most."""

_ENGINE = {
    "isolation_level": "READ COMMITTED",  # what is read after the lock was waited for must be what is there then
    "connect_args": {
        "connect_timeout": 10,
        # A cut network: notice it, on both sides, and let go of the lock.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        # What was committed stays so, whatever the server is set to; and a driver that hangs does not hold up the rest.
        "options": "-c synchronous_commit=on -c idle_in_transaction_session_timeout=300s -c tcp_keepalives_idle=10 "
        "-c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
        "application_name": "mtlsearch",
    },
}

_TABLES = sa.MetaData()
_DRIVERS = sa.Table(
    "mtlsearch_drivers",
    _TABLES,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("driver", sa.String(64), primary_key=True),
    sa.Column("process", sa.String(64), nullable=False),
    sa.Column("transaction", sa.BigInteger, nullable=False),
)
_CHANGES = sa.Table(
    "mtlsearch_changes",
    _TABLES,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("mtlsearch_changes_by_revision", "study_id", "revision"),
)

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
        weakref.finalize(self, self._rdb.engine.dispose)
        self._open: sa.Connection | None = None
        self._turn = _Turn(0)
        self._study_id = -1
        self._trials: list[FrozenTrial] = []
        self._numbers: dict[int, int] = {}  # by Optuna's id of the trial
        self._seen = 0  # the newest change that is known
        self._undo: dict[int, FrozenTrial | None] = {}
        try:
            self._enter()
        except sa.exc.SQLAlchemyError as error:
            raise _unusable(place, error) from error

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
                if not _is_outage(error):
                    raise
                self._rdb.engine.dispose()
                if time.monotonic() > deadline:
                    raise MtlsearchError(
                        f"the study's database did not answer for {PATIENCE_SECONDS:.0f} seconds "
                        f"({_reason(error)}). Everything that was decided is kept; resume when it is back."
                    ) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, work: Callable[[], Any]) -> Any:
        try:
            with self._rdb.engine.begin() as connection:
                _lock(connection, self._place.study)
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
            sa.select(_DRIVERS.c.process, _DRIVERS.c.transaction).where(*self._own_row)
        ).one_or_none()
        if row is None or row.process != self._process:
            raise MtlsearchError(
                f"another process goes on with {self._place.folder}, so this one ends: the study is no longer its own."
            )
        return int(row.transaction)

    @property
    def _own_row(self) -> tuple[sa.ColumnElement[bool], ...]:
        return (_DRIVERS.c.study_id == self._study_id, _DRIVERS.c.driver == self._place.driver)

    def _write_down(self, connection: sa.Connection) -> None:
        """Says what this transaction has changed, and that it is over."""
        if not self._undo:
            return
        new = insert(_CHANGES).values(
            [
                {"trial_id": self._trials[number]._trial_id, "study_id": self._study_id, "revision": self._seen + 1}
                for number in self._undo
            ]
        )
        connection.execute(
            new.on_conflict_do_update(index_elements=["trial_id"], set_={"revision": new.excluded.revision})
        )
        connection.execute(sa.update(_DRIVERS).where(*self._own_row).values(transaction=self._turn.number))

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
        changes = sa.select(_CHANGES.c.trial_id, _CHANGES.c.revision).where(
            _CHANGES.c.study_id == self._study_id, _CHANGES.c.revision > self._seen
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
            .where(model.trial_id.in_(trial_ids))
            .order_by(model.trial_id)
        )
        with Session(connection, join_transaction_mode="rollback_only") as session:
            return [self._rdb._build_frozen_trial_from_trial_model(each) for each in session.scalars(query)]

    def _enter(self) -> None:
        """Finds the study or makes it, and takes this driver's place from whoever had it."""
        with self._rdb.engine.begin() as connection:
            _lock(connection, self._place.study)
            studies, directions = _table(models.StudyModel), _table(models.StudyDirectionModel)
            named = sa.select(studies.c.study_id).where(studies.c.study_name == self._place.study)
            study_id = connection.scalar(named)
            if study_id is None:
                new = insert(studies).values(study_name=self._place.study).returning(studies.c.study_id)
                study_id = connection.scalar(new)
                direction = {"study_id": study_id, "objective": 0, "direction": StudyDirection.MAXIMIZE}
                connection.execute(insert(directions).values(direction))
            assert study_id is not None
            self._study_id = study_id
            row = {"process": self._process, "transaction": 0}
            driver = insert(_DRIVERS).values(study_id=study_id, driver=self._place.driver, **row)
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
        table = _table(model)
        query = sa.select(table.c.key, table.c.value_json).where(table.c.study_id == self._study_id)
        return {key: json.loads(value) for key, value in self._inside.execute(query)}

    # What Optuna writes: into the transaction, and a new trial into memory -------------------------------

    @property
    def _inside(self) -> sa.Connection:
        assert self._open is not None, "the study is written to inside of `transact` only"
        return self._open

    def _put(self, model: Any, index: tuple[str, ...], /, **row: Any) -> None:
        """Writes one row, or overwrites the one that is the same in `index`."""
        new = insert(_table(model)).values(row)
        changed = {name: new.excluded[name] for name in row if name not in index}
        self._inside.execute(new.on_conflict_do_update(index_elements=index, set_=changed))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """The next number; no other driver can take it, since this one has the lock."""
        trial = copy.deepcopy(template_trial) if template_trial else create_trial(state=TrialState.RUNNING)
        trials = _table(models.TrialModel)
        new = insert(trials).values(
            number=len(self._trials),
            study_id=self._study_id,
            state=trial.state,
            datetime_start=_utc(trial.datetime_start),
            datetime_complete=_utc(trial.datetime_complete),
        )
        trial.number, trial._trial_id = (
            len(self._trials),
            self._inside.execute(new.returning(trials.c.trial_id)).scalar_one(),
        )
        for objective, value in enumerate(trial.values or ()):
            self._put_value(trial._trial_id, objective, value)
        for name, value in trial.params.items():
            self._put_param(
                trial._trial_id, name, trial.distributions[name].to_internal_repr(value), trial.distributions[name]
            )
        for step, value in trial.intermediate_values.items():
            self._put_intermediate(trial._trial_id, step, value)
        for model, attributes in (
            (models.TrialUserAttributeModel, trial.user_attrs),
            (models.TrialSystemAttributeModel, trial.system_attrs),
        ):
            for key, value in attributes.items():
                self._put_attribute(model, trial._trial_id, key, value)
        self._trials.append(trial)
        self._numbers[trial._trial_id] = trial.number
        self._undo[trial.number] = None
        self._tell(trial)
        return trial._trial_id

    def _put_value(self, trial_id: int, objective: int, value: float) -> None:
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
        self._put(models.TrialValueModel, ("trial_id", "objective"), **row)

    def _put_param(self, trial_id: int, name: str, value: float, distribution: BaseDistribution) -> None:
        row = {"trial_id": trial_id, "param_name": name, "param_value": value}
        described = distribution_to_json(distribution)
        self._put(models.TrialParamModel, ("trial_id", "param_name"), **row, distribution_json=described)

    def _put_intermediate(self, trial_id: int, step: int, value: float) -> None:
        model = models.TrialIntermediateValueModel
        stored, kind = model.intermediate_value_to_stored_repr(value)
        row = {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
        self._put(model, ("trial_id", "step"), **row)

    def _put_attribute(self, model: Any, trial_id: int, key: str, value: Any) -> None:
        self._put(model, ("trial_id", "key"), trial_id=trial_id, key=key, value_json=json.dumps(value))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Optuna's."""
        trial = self._updatable(trial_id)
        self._put_param(trial_id, param_name, param_value_internal, distribution)
        self._change(
            trial_id,
            params={**trial.params, param_name: distribution.to_external_repr(param_value_internal)},
            distributions={**trial.distributions, param_name: distribution},
        )

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Optuna's; False where a trial that is to be started runs already."""
        if state == TrialState.RUNNING and self._updatable(trial_id).state != TrialState.WAITING:
            return False
        changes: dict[str, Any] = {"state": state}
        if state == TrialState.RUNNING:
            changes["datetime_start"] = datetime.now()
        if state.is_finished():
            changes["datetime_complete"] = datetime.now()
        trials = _table(models.TrialModel)
        stored = {name: _utc(value) if isinstance(value, datetime) else value for name, value in changes.items()}
        self._inside.execute(sa.update(trials).where(trials.c.trial_id == trial_id).values(stored))
        for objective, value in enumerate(values or ()):
            self._put_value(trial_id, objective, value)
        self._change(trial_id, **changes, **({} if values is None else {"values": list(values)}))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Optuna's."""
        values = self._updatable(trial_id).intermediate_values
        self._put_intermediate(trial_id, step, intermediate_value)
        self._change(trial_id, intermediate_values={**values, step: intermediate_value})

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        attributes = self._updatable(trial_id).user_attrs
        self._put_attribute(models.TrialUserAttributeModel, trial_id, key, value)
        self._change(trial_id, user_attrs={**attributes, key: json.loads(json.dumps(value))})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        attributes = self._updatable(trial_id).system_attrs
        self._put_attribute(models.TrialSystemAttributeModel, trial_id, key, value)
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
        self._set_study_attr(models.StudyUserAttributeModel, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Optuna's."""
        self._set_study_attr(models.StudySystemAttributeModel, key, value)

    def _set_study_attr(self, model: Any, key: str, value: Any) -> None:
        self._put(model, ("study_id", "key"), study_id=self._study_id, key=key, value_json=json.dumps(value))

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> NoReturn:
        """Never: the study is there."""
        raise AssertionError("the study is made when its database is opened")

    def delete_study(self, study_id: int) -> NoReturn:
        """Never."""
        raise AssertionError("a search does not delete its study")


def _table(model: Any) -> sa.Table:
    """Of one of Optuna's classes. Its rows are written without SQLAlchemy's objects: a third of the time."""
    table: sa.Table = model.__table__
    return table


def _utc(local: datetime | None) -> datetime | None:
    """As Optuna's tables have times: without a zone, in UTC."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def open_rdb(place: Database, *, make_tables: bool = True) -> RDBStorage:
    """Optuna's storage over the database.

    Raises:
        ConfigError: psycopg is not installed, the database does not answer or refuses, or its tables are another
            Optuna's.
    """
    engine = _engine(place)
    try:
        with engine.begin() as connection:
            _lock(connection, "")  # two drivers that come at once would both make the tables
            template = _url(place).replace("{", "{{").replace("}", "}}")  # Optuna fills in braces
            rdb = RDBStorage(template, engine_kwargs=_ENGINE, skip_table_creation=not make_tables)
            if make_tables:
                _TABLES.create_all(rdb.engine)
            return rdb
    except sa.exc.SQLAlchemyError as error:
        raise _unusable(place, error) from error
    except StorageInternalError as error:  # Optuna's wrapping
        raise _unusable(place, error.__cause__ or error) from error
    except RuntimeError as error:  # Optuna's word on tables of another version, with what to do
        raise ConfigError(f"search.storage: {error}") from error
    finally:
        engine.dispose()


def _engine(place: Database) -> sa.Engine:
    try:
        return sa.create_engine(_url(place), **_ENGINE)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "search.storage needs psycopg, PostgreSQL's library. Install it: pip install 'mtlsearch[postgresql]'."
        ) from error
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise _unusable(place, error) from error


def _url(place: Database) -> str:
    return place.url.replace("postgresql://", "postgresql+psycopg://", 1)


def read_study(place: Database) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """The study's trials by number, and its user attributes; nothing where there is no such study.

    Raises:
        ConfigError: the database cannot be used.
    """
    engine = _engine(place)
    try:
        if not sa.inspect(engine).has_table(models.TrialModel.__tablename__):
            return [], {}
    except sa.exc.SQLAlchemyError as error:
        raise _unusable(place, error) from error
    finally:
        engine.dispose()
    rdb = open_rdb(place, make_tables=False)
    try:
        study_id = rdb.get_study_id_from_name(place.study)
        return rdb.get_all_trials(study_id, deepcopy=False), rdb.get_study_user_attrs(study_id)
    except KeyError:
        return [], {}
    except StorageInternalError as error:
        raise _unusable(place, error.__cause__ or error) from error
    finally:
        rdb.engine.dispose()


def _lock(connection: sa.Connection, name: str) -> None:
    """Waits for the turn; PostgreSQL takes the lock back when the transaction ends, however it ends."""
    digest = hashlib.sha256(f"mtlsearch {name}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def _is_outage(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the connection or the server is gone, and not the statement wrong."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.PendingRollbackError) or (
        isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    )


def _unusable(place: Database, error: BaseException) -> ConfigError:
    return ConfigError(
        f"search.storage must be a PostgreSQL database that can be written to, but {place.url} cannot be used: "
        f"{_reason(error)}. Check the address, the user and PGPASSWORD or ~/.pgpass; make the database with createdb."
    )


def _reason(error: BaseException) -> str:
    """The driver library's first line."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(cause).strip().split("\n")[0].rstrip(".") or type(cause).__name__

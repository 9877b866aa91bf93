"""The way to a PostgreSQL server: connections, the tables of ours beside Optuna's, and what is wrong when it fails."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

from mtlsearch.errors import ConfigError
from mtlsearch.search.place import Database

RESTART_SECONDS = 5.0
"""How long a server that does not answer is waited for when a study is opened: it may be restarting."""

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
DRIVERS = sa.Table(
    "mtlsearch_drivers",
    _TABLES,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("driver", sa.String(64), primary_key=True),
    sa.Column("process", sa.String(64), nullable=False),
    sa.Column("transaction", sa.BigInteger, nullable=False),
    sa.Column("beats", sa.BigInteger, nullable=False, server_default="0"),
)
CHANGES = sa.Table(
    "mtlsearch_changes",
    _TABLES,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Index("mtlsearch_changes_by_revision", "study_id", "revision"),
)


T = TypeVar("T")


def open_rdb(place: Database, *, make_tables: bool = True) -> RDBStorage:
    """Optuna's storage over the database.

    Raises:
        ConfigError: psycopg is not installed, the database does not answer or refuses, or its tables are another
            Optuna's.
    """
    template = _url(place).replace("{", "{{").replace("}", "}}")  # Optuna fills in braces

    def make() -> RDBStorage:
        engine = open_engine(place)
        try:
            with engine.begin() as connection:
                lock(connection, "")  # two drivers that come at once would both make the tables
                rdb = RDBStorage(template, engine_kwargs=_ENGINE, skip_table_creation=not make_tables)
                if make_tables:
                    _TABLES.create_all(rdb.engine)
                return rdb
        finally:
            engine.dispose()

    return reached(place, make)


def read_study(place: Database) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """The study's trials by number, and its user attributes; nothing where there is no such study.

    Raises:
        ConfigError: the database cannot be used.
    """

    def has_tables() -> bool:
        engine = open_engine(place)
        try:
            return bool(sa.inspect(engine).has_table(models.TrialModel.__tablename__))
        finally:
            engine.dispose()

    def read() -> tuple[list[FrozenTrial], dict[str, Any]]:
        rdb = open_rdb(place, make_tables=False)
        try:
            study_id = rdb.get_study_id_from_name(place.study)
            return rdb.get_all_trials(study_id, deepcopy=False), rdb.get_study_user_attrs(study_id)
        except KeyError:
            return [], {}
        finally:
            rdb.engine.dispose()

    return reached(place, read) if reached(place, has_tables) else ([], {})


def reached(place: Database, call: Callable[[], T]) -> T:
    """What the call comes to, once the server answers.

    Raises:
        ConfigError: it does not, or it refuses; its tables are another Optuna's.
    """
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            return call()
        except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            if cause is None or not is_outage(cause) or time.monotonic() > deadline:
                raise _unusable(place, cause or error) from error
        except RuntimeError as error:  # Optuna's word on tables of another version, with what to do
            raise ConfigError(f"search.storage: {error}") from error
        time.sleep(0.2)


def open_engine(place: Database) -> sa.Engine:
    """Connections to the database; nothing is asked yet.

    Raises:
        ConfigError: psycopg is not installed, or the URL is none.
    """
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


def lock(connection: sa.Connection, name: str) -> None:
    """Waits for the turn; PostgreSQL takes the lock back when the transaction ends, however it ends."""
    digest = hashlib.sha256(f"mtlsearch {name}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


def is_outage(error: BaseException) -> bool:
    """Whether the connection or the server is gone, and not the statement wrong."""
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.PendingRollbackError) or (
        isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
    )


def _unusable(place: Database, error: BaseException) -> ConfigError:
    return ConfigError(
        f"search.storage must be a PostgreSQL database that can be written to, but {place.url} cannot be used: "
        f"{reason(error)}. Check the address, the user and PGPASSWORD or ~/.pgpass; make the database with createdb."
    )


def reason(error: BaseException) -> str:
    """The driver library's first line."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return str(cause).strip().split("\n")[0].rstrip(".") or type(cause).__name__

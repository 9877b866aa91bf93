"""Optuna's tables, written row by row: what its `RDBStorage` writes, in about half of the time.

It looks each trial up before it changes it, through SQLAlchemy's objects. Who holds the study's lock knows what is
there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy.dialects.postgresql import insert


def study_id(connection: sa.Connection, name: str) -> int:
    """Of the study of this name, which is made where there is none."""
    studies = _table(models.StudyModel)
    found = connection.scalar(sa.select(studies.c.study_id).where(studies.c.study_name == name))
    if found is None:
        new = insert(studies).values(study_name=name).returning(studies.c.study_id)
        found = connection.execute(new).scalar_one()
        direction = {"study_id": found, "objective": 0, "direction": StudyDirection.MAXIMIZE}
        connection.execute(insert(_table(models.StudyDirectionModel)).values(direction))
    return int(found)


def study_attributes(connection: sa.Connection, model: Any, study: int) -> dict[str, Any]:
    """All of the study's user or system attributes."""
    table = _table(model)
    query = sa.select(table.c.key, table.c.value_json).where(table.c.study_id == study)
    return {key: json.loads(value) for key, value in connection.execute(query)}


def put_study_attribute(connection: sa.Connection, model: Any, study: int, key: str, value: Any) -> None:
    """A user or system attribute of the study."""
    _put(connection, model, ("study_id", "key"), study_id=study, key=key, value_json=json.dumps(value))


def add_trial(connection: sa.Connection, study: int, trial: FrozenTrial) -> int:
    """Writes a whole trial; its number is taken as it is.

    Returns:
        Optuna's id of it.
    """
    trials = _table(models.TrialModel)
    new = insert(trials).values(
        number=trial.number,
        study_id=study,
        state=trial.state,
        datetime_start=_utc(trial.datetime_start),
        datetime_complete=_utc(trial.datetime_complete),
    )
    trial_id = int(connection.execute(new.returning(trials.c.trial_id)).scalar_one())
    _put_values(connection, trial_id, trial.values or ())
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        put_param(connection, trial_id, name, distribution.to_internal_repr(value), distribution)
    for step, value in trial.intermediate_values.items():
        put_intermediate(connection, trial_id, step, value)
    for key, value in trial.user_attrs.items():
        put_user_attribute(connection, trial_id, key, value)
    for key, value in trial.system_attrs.items():
        put_system_attribute(connection, trial_id, key, value)
    return trial_id


def put_state(connection: sa.Connection, trial_id: int, changes: Mapping[str, Any], values: Sequence[float]) -> None:
    """The trial's state, the time of that, and its values."""
    trials = _table(models.TrialModel)
    stored = {name: _utc(value) if isinstance(value, datetime) else value for name, value in changes.items()}
    connection.execute(sa.update(trials).where(trials.c.trial_id == trial_id).values(stored))
    _put_values(connection, trial_id, values)


def _put_values(connection: sa.Connection, trial_id: int, values: Sequence[float]) -> None:
    model = models.TrialValueModel
    for objective, value in enumerate(values):
        stored, kind = model.value_to_stored_repr(value)
        row = {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
        _put(connection, model, ("trial_id", "objective"), **row)


def put_param(
    connection: sa.Connection, trial_id: int, name: str, value: float, distribution: BaseDistribution
) -> None:
    """A parameter's value, as Optuna has it inside."""
    row = {"trial_id": trial_id, "param_name": name, "param_value": value}
    described = distribution_to_json(distribution)
    _put(connection, models.TrialParamModel, ("trial_id", "param_name"), **row, distribution_json=described)


def put_intermediate(connection: sa.Connection, trial_id: int, step: int, value: float) -> None:
    """The value of an epoch."""
    model = models.TrialIntermediateValueModel
    stored, kind = model.intermediate_value_to_stored_repr(value)
    row = {"trial_id": trial_id, "step": step, "intermediate_value": stored, "intermediate_value_type": kind}
    _put(connection, model, ("trial_id", "step"), **row)


def put_user_attribute(connection: sa.Connection, trial_id: int, key: str, value: Any) -> None:
    """Any JSON."""
    _put_attribute(connection, models.TrialUserAttributeModel, trial_id, key, value)


def put_system_attribute(connection: sa.Connection, trial_id: int, key: str, value: Any) -> None:
    """Any JSON."""
    _put_attribute(connection, models.TrialSystemAttributeModel, trial_id, key, value)


def _put_attribute(connection: sa.Connection, model: Any, trial_id: int, key: str, value: Any) -> None:
    _put(connection, model, ("trial_id", "key"), trial_id=trial_id, key=key, value_json=json.dumps(value))


def _put(connection: sa.Connection, model: Any, index: tuple[str, ...], /, **row: Any) -> None:
    """Writes one row, or overwrites the one that is the same in `index`."""
    new = insert(_table(model)).values(row)
    changed = {name: new.excluded[name] for name in row if name not in index}
    connection.execute(new.on_conflict_do_update(index_elements=index, set_=changed))


def _table(model: Any) -> sa.Table:
    table: sa.Table = model.__table__
    return table


def _utc(local: datetime | None) -> datetime | None:
    """As Optuna's tables have times: without a zone, in UTC."""
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)

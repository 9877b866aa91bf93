"""All that an experiment's folder tells, read once: what the report, the W&B leaderboard and notebooks are made of.

It can be read while the search runs and after a crash: what is not there yet is None or empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from mtlsearch.config import Task, TrialConfig
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.data import DataSchema
from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.objective import gains
from mtlsearch.records import EpochMetrics, ModelRecord, Role, Scores, TrialOrder, TrialRecord
from mtlsearch.report.leaderboard import Leaderboard, best_epoch, read_leaderboard
from mtlsearch.search import read_records, study_of
from mtlsearch.search.elsewhere import configs_elsewhere
from mtlsearch.search.importance import Importance, read_importance
from mtlsearch.space import flatten

if TYPE_CHECKING:
    from mtlsearch.report.final import FinalRanking

_TASKS: TypeAdapter[tuple[Task, ...]] = TypeAdapter(tuple[Task, ...])


@dataclass(frozen=True)
class TrialFacts:
    """One trial: what it was to do, what it measured, what its model looks like inside."""

    record: TrialRecord
    order: TrialOrder | None
    """None where the trial ended before it began, or is in another driver's folder."""
    config: TrialConfig | None
    """None where the trial ended before it began."""
    epochs: tuple[EpochMetrics, ...]
    model: ModelRecord | None
    test: Scores | None

    @property
    def number(self) -> int:
        """As the study counts."""
        return self.record.number

    @property
    def shown(self) -> EpochMetrics | None:
        """The epoch that its objective is of: the best where it is COMPLETE, else the last."""
        if self.record.state == "COMPLETE" or not self.epochs:
            return best_epoch(self.epochs)
        return self.epochs[-1]

    @cached_property
    def parameters(self) -> dict[str, str | int | float | bool | None]:
        """The whole configuration by flat names, what was fixed included."""
        return {} if self.config is None else flatten(self.config)


@dataclass(frozen=True)
class Facts:
    """One experiment. `trials` is by number and has baselines and final trials too; `board` ranks them."""

    folder: ExperimentFolder
    plan: Mapping[str, Any]
    tasks: tuple[Task, ...]
    records: tuple[TrialRecord, ...]
    board: Leaderboard
    trials: Mapping[int, TrialFacts]
    final: FinalRanking | None
    """None where none was asked for, or none of its trials has ended."""

    @property
    def name(self) -> str:
        """The experiment's."""
        return str(self.plan.get("name", self.folder.path.name))

    @cached_property
    def schema(self) -> DataSchema:
        """The data's columns and splits.

        Raises:
            ConfigError: schema.json is missing or damaged.
        """
        path = self.folder.path / "schema.json"
        try:
            return DataSchema.model_validate_json(path.read_bytes())
        except (ValidationError, FileNotFoundError) as error:
            raise _damaged("the file must be the schema that `mtlsearch run` wrote", Where(path)) from error

    @cached_property
    def reference(self) -> dict[str, float]:
        """Task → main metric of its single-task baseline on validation; empty where there are no baselines."""
        orders = (trial.order for trial in self.trials.values())
        return next((dict(order.reference) for order in orders if order is not None and order.reference), {})

    @cached_property
    def importance(self) -> Importance:
        """How much each parameter mattered to the objective and to each task."""
        complete = [trial for trial in self.of_role("trial") if trial.record.state == "COMPLETE"]
        scores = {
            task.name: {
                trial.number: -value if task.main_metric in LOWER_IS_BETTER else value
                for trial in complete
                if (value := main_score(task, trial)) is not None
            }
            for task in self.tasks
        }
        return read_importance(study_of(self.folder), scores)

    def of_role(self, role: Role) -> list[TrialFacts]:
        """The trials, baselines or final trials, by number."""
        return [trial for trial in self.trials.values() if trial.record.role == role]

    def ranked(self) -> list[TrialFacts]:
        """The search's trials as the leaderboard has them, best first."""
        return [self.trials[row["trial"]] for row in self.board.rows if row["role"] == "trial"]

    def gains(self, trial: TrialFacts) -> dict[str, float]:
        """Task → relative gain over its baseline on validation; without tasks whose gain is undefined."""
        reference = self.reference
        defined = [
            task for task in self.tasks if reference.get(task.name, 0.0) != 0.0 and main_score(task, trial) is not None
        ]
        return gains(defined, trial.shown.validation, reference) if trial.shown is not None else {}


def main_score(task: Task, trial: TrialFacts) -> float | None:
    """The task's main metric on validation, of the epoch that counts; None where it has none."""
    return None if trial.shown is None else trial.shown.validation.get(task.name, {}).get(task.main_metric)


def read_experiment_facts(folder: ExperimentFolder) -> Facts:
    """Everything that the folder holds now.

    Raises:
        ConfigError: one of its files is damaged.
    """
    plan = folder.read_plan()
    records = read_records(study_of(folder))
    elsewhere = configs_elsewhere(folder, records)
    return Facts(
        folder=folder,
        plan=plan,
        tasks=_tasks(folder, plan),
        records=tuple(records),
        board=read_leaderboard(folder, records),
        trials={
            record.number: _trial(folder.trial(record.number), record, elsewhere.get(record.number))
            for record in records
        },
        final=_final(folder, records),
    )


def _tasks(folder: ExperimentFolder, plan: Mapping[str, Any]) -> tuple[Task, ...]:
    try:
        return _TASKS.validate_json(json.dumps(plan.get("tasks")))  # strict: a tuple is a list in JSON only
    except ValidationError as error:
        raise _damaged("`tasks` must be the tasks that `mtlsearch run` wrote", Where(folder.plan)) from error


def _trial(folder: TrialFolder, record: TrialRecord, elsewhere: TrialConfig | None) -> TrialFacts:
    if elsewhere is not None:
        return TrialFacts(record=record, order=None, config=elsewhere, epochs=(), model=None, test=record.test)
    order = folder.read_order() if folder.order.exists() else None
    return TrialFacts(
        record=record,
        order=order,
        config=order.config if order is not None else None,
        epochs=tuple(folder.epochs()),
        model=_model(folder),
        test=folder.read_test(),
    )


def _model(folder: TrialFolder) -> ModelRecord | None:
    if not folder.model.exists():
        return None
    try:
        return ModelRecord.model_validate_json(folder.model.read_bytes())
    except ValidationError as error:
        raise _damaged("the file must be what the trial wrote of its model", Where(folder.model)) from error


def _final(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> FinalRanking | None:
    from mtlsearch.report.final import read_final

    return read_final(folder, records)


def _damaged(must: str, where: Where) -> ConfigError:
    return ConfigError(f"{must}, but is missing or damaged. Restore it from a copy.", where)

"""Experiments made up for the report: as large, as odd and as unfinished as a test wants them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from mtlsearch.config import MMoEExConfig, SharedBottomConfig, Task, TrialConfig
from mtlsearch.config.model.experts import DenseConfig, GruConfig
from mtlsearch.config.optimizer import AdamWConfig
from mtlsearch.data import DataSchema
from mtlsearch.data.schema import SplitCounts
from mtlsearch.folder import ExperimentFolder
from mtlsearch.objective import score
from mtlsearch.records import EpochMetrics, MixtureMetrics, ModelRecord, Role, TrialOrder
from mtlsearch.search.attributes import BASELINE, OUTCOME

HOSTILE = '<script>alert("1")</script>'
"""A name that is markup where somebody forgets to escape it."""

SPACE = """\
name: made_up
data: {source: flights}
space:
  model:
    choice:
      - {kind: shared_bottom, hidden: {choice: [32, 64]}}
      - {kind: mmoeex, num_experts: {int: [2, 8]}, alpha: {float: [0.0, 1.0]}}
  optimizer: {lr: {float: [1.0e-4, 1.0e-1], log: true}}
constraints: [alpha * num_experts < num_experts]
budget: {trials: 500, epochs: 10}
"""

DISTRIBUTIONS = {
    "model": CategoricalDistribution(["shared_bottom", "mmoeex"]),
    "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
}


@dataclass(frozen=True)
class MadeUp:
    """Writes one experiment."""

    path: Path
    tasks: tuple[Task, ...]
    epochs: int = 10
    name: str = "made_up"
    reason: str = "trained all epochs"
    baselines: bool = True

    def write(self, states: Sequence[str]) -> ExperimentFolder:
        """A trial for each state; baselines, if any, come first."""
        plan = {"mtlsearch": "0.1", "name": self.name, "overrides": [], "created": "2026-01-01T10:00:00+00:00"}
        plan |= {"versions": {"torch": "2.13"}, "tasks": [task.model_dump() for task in self.tasks]}
        plan |= {"objective": "delta" if self.baselines else "mean", "final": None, "seed": 7}
        folder = ExperimentFolder.create(self.path, SPACE, plan, self._schema().model_dump_json())
        trials = [self._baseline(folder, index, task) for index, task in enumerate(self.tasks) if self.baselines]
        trials += [self._trial(folder, len(trials) + index, state) for index, state in enumerate(states)]
        self._study(folder.journal, trials)
        return folder

    def _study(self, journal: Path, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        study = optuna.create_study(study_name=self.name, storage=storage, direction="maximize")
        for trial in trials:
            storage.create_new_trial(study._study_id, template_trial=trial)

    def _schema(self) -> DataSchema:
        none = tuple(0 for _ in self.tasks)
        splits = [
            SplitCounts(name=name, num_rows=1000, num_steps=0, missing=none, frequencies=tuple((500,) for _ in none))
            for name in ("train", "validation", "test")
        ]
        return DataSchema(
            source="flights",
            data_digest="abc",
            tasks=self.tasks,
            numeric=(),
            categorical=(),
            label_mean=tuple(0.0 for _ in none),
            label_std=tuple(1.0 for _ in none),
            splits=tuple(splits),
        )

    def _baseline(self, folder: ExperimentFolder, number: int, task: Task) -> optuna.trial.FrozenTrial:
        scores = {task.name: dict.fromkeys(task.metrics, 0.7)}
        self._order(folder, number, "baseline", (task.name,), TrialConfig(model=SharedBottomConfig()))
        folder.trial(number).append(_epoch(1, 0.7, scores))
        attributes = {BASELINE: task.name, OUTCOME: "trained"}
        return optuna.trial.create_trial(value=0.7, user_attrs=attributes)

    def _trial(self, folder: ExperimentFolder, number: int, state: str) -> optuna.trial.FrozenTrial:
        draw = random.Random(number)
        config, params = _configuration(draw)
        self._order(folder, number, "trial", tuple(task.name for task in self.tasks), config)
        length = {"COMPLETE": self.epochs, "FAIL": 0}.get(state, 1 + number % max(1, self.epochs - 1))
        measured = [self._measured(draw, epoch) for epoch in range(1, length + 1)]
        for metrics in measured:
            folder.trial(number).append(metrics)
        if measured and isinstance(config.model, MMoEExConfig):
            folder.trial(number).write_model(_inside(draw, config.model, self.tasks, length))
        if state == "COMPLETE":
            folder.trial(number).test.write_text(json.dumps(measured[-1].model_dump()["validation"]))
        ended = state in ("COMPLETE", "PRUNED")
        value = max(metrics.objective for metrics in measured) if state == "COMPLETE" else None
        distributions = {name: DISTRIBUTIONS[name] for name in params}
        return optuna.trial.create_trial(
            state=TrialState[state],
            value=measured[-1].objective if ended and value is None else value,
            params=params,
            distributions=distributions,
            intermediate_values={metrics.epoch: metrics.objective for metrics in measured},
            user_attrs={OUTCOME: self.reason} if state != "RUNNING" else {},
        )

    def _order(
        self, folder: ExperimentFolder, number: int, role: Role, tasks: tuple[str, ...], config: TrialConfig
    ) -> None:
        order = TrialOrder(
            number=number,
            role=role,
            config=config,
            seed=1,
            epochs=self.epochs,
            tasks=tasks,
            metric="delta" if self.baselines else "mean",
            reference={task.name: 0.7 for task in self.tasks} if self.baselines and role == "trial" else {},
        )
        folder.trial(number).begin(order)

    def _measured(self, draw: random.Random, epoch: int) -> EpochMetrics:
        scores = {
            task.name: {name: 0.6 + 0.02 * epoch + draw.uniform(-0.05, 0.05) for name in task.metrics}
            for task in self.tasks
        }
        reference = {task.name: 0.7 for task in self.tasks}
        return _epoch(epoch, score("delta" if self.baselines else "mean", self.tasks, scores, reference), scores)


def binary_tasks(count: int) -> tuple[Task, ...]:
    """`t0`, `t1`, …"""
    return tuple(Task(name=f"t{index}", kind="binary") for index in range(count))


def _configuration(draw: random.Random) -> tuple[TrialConfig, dict[str, Any]]:
    rate = 10 ** draw.uniform(-4, -1)
    optimizer = AdamWConfig(lr=rate)
    if draw.random() < 0.4:
        config = TrialConfig(model=SharedBottomConfig(hidden=draw.choice((32, 64))), optimizer=optimizer)
        return config, {"model": "shared_bottom", "optimizer.lr": rate}
    model = MMoEExConfig(
        num_experts=draw.randint(2, 8), alpha=draw.choice((0.0, 0.5)), expert=draw.choice((DenseConfig(), GruConfig()))
    )
    return TrialConfig(model=model, optimizer=optimizer), {"model": "mmoeex", "optimizer.lr": rate}


def _inside(draw: random.Random, model: MMoEExConfig, tasks: Sequence[Task], epoch: int) -> ModelRecord:
    size = model.num_experts
    distance = tuple(tuple(0.0 if one == other else draw.random() for other in range(size)) for one in range(size))
    return ModelRecord(
        num_parameters=1000,
        multiply_adds=900,
        epoch=epoch,
        open_experts={task.name: tuple(index > 0 for index in range(size)) for task in tasks},
        gate_utilization={task.name: tuple(1 / size for _ in range(size)) for task in tasks},
        expert_distance=distance,
    )


def _epoch(epoch: int, objective: float, scores: dict[str, dict[str, float]]) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        objective=objective,
        validation=scores,
        train_loss=dict.fromkeys(scores, 1 / epoch),
        task_weights=dict.fromkeys(scores, 1.0),
        learning_rate=1e-3,
        grad_norm=1.0,
        seconds=1.5,
        samples_per_second=1000.0,
        mixture=MixtureMetrics(diversity=0.5, diversity_off_diagonal=0.6, gate_entropy={}, dead_experts=0),
    )

"""What a search takes over from an earlier one: its best configurations, to try first, and its history.

A configuration is taken over where the new space has it, under whatever names. Values are taken over where they mean
the same: the same data, tasks, objective, baselines and epochs. Baselines are trained anew, so values of Δ that were
taken over are over the earlier ones; on the same data with the same configuration they differ by their seeds alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlsearch.config import Served, Task
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.storage import Place, is_uri
from mtlsearch.records import TrialRecord
from mtlsearch.search.fixed import admits, baseline_config
from mtlsearch.search.place import study_of
from mtlsearch.search.reading import read_records
from mtlsearch.space import Experiment, Space, read_experiment

BEST_TRIALS = 3
"""Complete trials of the earlier search whose configurations are tried first."""


@dataclass(frozen=True)
class Earlier:
    """What an earlier search gives to a new one. Its trials' parameters have the new space's names."""

    folder: Place
    best: tuple[TrialRecord, ...]
    """To try first."""
    history: tuple[TrialRecord, ...]
    """Complete and pruned ones that the sampler may learn from; empty where values would not mean the same."""
    differences: tuple[str, ...]
    """Why values would not mean the same."""
    data_read: bool = True
    """Whether the new search's data is known; without it, the history is left out."""

    @property
    def sentence(self) -> str:
        """What is taken over."""
        first = f"{len(self.best)} of its best configurations come first"
        if self.differences:
            return f"{self.folder}: {first}; its history stays out, since it differs in {', '.join(self.differences)}"
        if not self.data_read:
            return f"{self.folder}: {first}; the sampler will know its trials if the data is the same"
        return f"{self.folder}: {first}, and the sampler knows {len(self.history)} of its trials"


def read_earlier(experiment: Experiment, served: Served, data_digest: str | None) -> Earlier:
    """Reads the folder that `search.warm_start` names.

    Args:
        data_digest: of the new search's data; None where it has not been read yet.
    Raises:
        ConfigError: the folder is no experiment, or damaged; the storage does not answer.
    """
    text = experiment.search.warm_start or ""
    folder: Place = text if is_uri(text) else Path(text)
    try:
        earlier = ExperimentFolder.open(folder)
        plan = earlier.read_plan()
        before = read_experiment(earlier.space, tuple(plan["overrides"]))
        records = [record for record in read_records(study_of(earlier)) if record.role == "trial"]
    except ConfigError as error:
        raise ConfigError(
            f"search.warm_start must be an earlier search's folder: {error}",
            experiment.where("search", "warm_start"),
        ) from error
    ended = [record for record in records if record.state in ("COMPLETE", "PRUNED") and record.value is not None]
    fitting = [found for record in ended if (found := _translated(record, before.space, experiment, served))]
    complete = [record for record in fitting if record.state == "COMPLETE"]
    complete.sort(key=lambda record: (-(record.value or 0.0), record.number))
    differences = tuple(_differences(plan, before, experiment, served, data_digest))
    return Earlier(
        folder=folder,
        best=tuple(complete[:BEST_TRIALS]),
        history=() if differences or data_digest is None else tuple(fitting),
        differences=differences,
        data_read=data_digest is not None,
    )


def _translated(record: TrialRecord, before: Space, experiment: Experiment, served: Served) -> TrialRecord | None:
    """The trial in the new space's names; None where the new space does not have its configuration."""
    config = before.config(record.params)
    try:
        params = experiment.space.assign(config.model_dump())
    except ConfigError:
        return None
    same = experiment.space.config(params) == config
    return replace(record, params=params) if same and admits(experiment, served, config) else None


def _differences(
    plan: Mapping[str, Any], before: Experiment, experiment: Experiment, served: Served, data_digest: str | None
) -> Iterator[str]:
    if data_digest is not None and plan.get("data_digest") != data_digest:
        yield "data"
    if [_described(Task.model_validate_json(json.dumps(task))) for task in plan["tasks"]] != [
        _described(task) for task in served.tasks
    ]:
        yield "tasks"
    if before.objective.metric != experiment.objective.metric:
        yield "objective"
    elif before.objective.metric == "delta" and baseline_config(before) != baseline_config(experiment):
        yield "objective.baseline"
    if before.budget.epochs != experiment.budget.epochs:
        yield "budget.epochs"


def _described(task: Task) -> tuple[str, str, str, bool]:
    """What a task's scores depend on, beside the data."""
    return (task.name, task.kind, task.main_metric, task.per_step)

"""What follows from a space file alone: which configurations may be proposed, and how baselines are trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mtlsearch.config import Served, Task, TrialConfig
from mtlsearch.config.trial import DEFAULT_BATCH_SIZE
from mtlsearch.space import Experiment


def admits(experiment: Experiment, served: Served, config: TrialConfig) -> bool:
    """Whether a configuration satisfies the constraints and can serve the tasks at all."""
    return config.model.infeasible(served) is None and experiment.space.violated(config) is None


def identity(experiment: Experiment, tasks: Sequence[Task], data_digest: str | None) -> dict[str, Any]:
    """What drivers that share a study must agree on, as JSON has it: with one of these another, trials could not be
    ranked together, or the drivers would decide differently.

    Args:
        data_digest: None where the data has not been read yet; it is left out then, with the tasks.
    """
    document, search, budget = experiment.document.value, experiment.search, experiment.budget
    data = {} if data_digest is None else {"data": data_digest, "tasks": [task.model_dump() for task in tasks]}
    facts = data | {
        "space": document["space"],
        "constraints": [constraint.text for constraint in experiment.space.constraints],
        "objective": experiment.objective.model_dump(),
        "budget.epochs": budget.epochs,
        "budget.patience": budget.patience,
        "search.sampler": search.sampler.model_dump(),
        "search.pruner": search.pruner.model_dump(),
        "search.seed": search.seed,
        "final": None if experiment.final is None else experiment.final.model_dump(),
    }
    same: dict[str, Any] = json.loads(json.dumps(facts))  # what a database gives back
    return same


def baseline_config(experiment: Experiment) -> TrialConfig:
    """How every single-task baseline is trained."""
    baseline = experiment.objective.baseline
    batch_size = baseline.batch_size or experiment.space.fixed("batch_size") or DEFAULT_BATCH_SIZE
    return TrialConfig(model=baseline.model, optimizer=baseline.optimizer, batch_size=batch_size)

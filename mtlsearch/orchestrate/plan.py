"""From a space file to a plan that can run: what can be refused is refused here, before anything is written."""

from __future__ import annotations

import json
import platform
import random
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtlsearch import __version__
from mtlsearch.config import Task, TrialConfig
from mtlsearch.data import tasks_of
from mtlsearch.errors import ConfigError, Where
from mtlsearch.objective import check_metric
from mtlsearch.records import derive_seed
from mtlsearch.search import first_configurations
from mtlsearch.space import Experiment, Random, Space

FEASIBILITY_DRAWS = 1000
"""Random configurations tried before a space is called empty."""

MOST_GRID_POINTS = 100_000
"""All points are listed before the first trial, to drop those that constraints forbid."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Plan:
    """An experiment whose parts fit together."""

    experiment: Experiment
    tasks: tuple[Task, ...]

    def first(self, count: int) -> list[TrialConfig]:
        """The first configurations that the search will propose, as far as no result can change them."""
        return first_configurations(self.experiment, self.tasks, count)

    def extremes(self) -> tuple[TrialConfig, TrialConfig]:
        """The smallest and the largest configuration that could be proposed, by estimate."""
        found = self.experiment.space.extremes()
        if all(_refusal(self.experiment.space, config, self.tasks) is None for config in found):
            return found
        where = self.experiment.where("space", "model")
        drawn = _admitted(self.experiment, self.tasks, FEASIBILITY_DRAWS, where=where)
        sample = sorted(drawn, key=lambda config: config.model.hidden)
        return sample[0], sample[-1]

    def to_json(self) -> dict[str, Any]:
        """plan.json: what made this experiment, enough to make it again."""
        return {
            "mtlsearch": __version__,
            "name": self.experiment.name,
            "source": str(self.experiment.source),
            "overrides": list(self.experiment.overrides),
            "seed": self.experiment.search.seed,
            "data": self.experiment.data.model_dump(mode="json"),
            "tasks": [task.model_dump() for task in self.tasks],
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "versions": _versions(),
            "git_commit": _git_commit(),
        }


def make_plan(experiment: Experiment) -> Plan:
    """Checks what the space file's sections say against each other.

    Raises:
        ConfigError: a task or metric that does not exist or fit, a space without any configuration that could run.
    """
    experiment = _self_contained(experiment)
    try:
        tasks = tasks_of(experiment.data)
    except ConfigError as error:
        raise ConfigError(error.message, experiment.where("data", "tasks")) from error
    check_metric(experiment.objective.metric, tasks, experiment.where("objective", "metric"))
    _check_countable(experiment)
    _admitted(experiment, tasks, 1, where=experiment.where("space", "model"))
    for index, fixed in enumerate(experiment.search.enqueue):
        where = experiment.where("search", "enqueue", index)
        _admitted(experiment, tasks, 1, where=where, fixed=experiment.space.assign(fixed))
    return Plan(experiment, tasks)


def check_machine(experiment: Experiment) -> None:
    """Refuses trials that this machine is too small for; clusters are asked when they are connected.

    Raises:
        ConfigError: one trial needs more CPUs than there are.
    """
    resources = experiment.resources
    wanted, have = resources.workers_per_trial * resources.cpus_per_worker, num_cpus()
    if wanted > have:
        raise ConfigError(
            f"one trial needs {wanted} CPUs ({resources.workers_per_trial} workers of {resources.cpus_per_worker}), "
            f"but this machine has {have}. Lower resources.workers_per_trial, or give a cluster with --address.",
            experiment.where("resources", "workers_per_trial"),
        )


def num_cpus() -> int:
    """CPUs that this process may use, by its affinity and its container's quota."""
    import joblib

    return int(joblib.cpu_count())


def default_folder(name: str) -> Path:
    """`experiments/NAME-DATE-TIME`."""
    return Path("experiments") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _self_contained(experiment: Experiment) -> Experiment:
    """Workers and resumed drivers run elsewhere: a path gets its start, and a name taken from the file is kept."""
    data, overrides = experiment.data, [f"name={json.dumps(experiment.name)}"]
    if data.path is not None:
        path = _absolute(data.path)
        data = data.model_copy(update={"path": path})
        overrides.append(f"data.path={json.dumps(path)}")
    if data.source == "table" and data.sequence is not None and data.sequence.static_path is not None:
        path = _absolute(data.sequence.static_path)
        data = data.model_copy(update={"sequence": data.sequence.model_copy(update={"static_path": path})})
        overrides.append(f"data.sequence.static_path={json.dumps(path)}")
    return replace(experiment, data=data, overrides=(*experiment.overrides, *overrides))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _check_countable(experiment: Experiment) -> None:
    if experiment.search.sampler.kind != "grid":
        return
    experiment.space.grid()  # refuses a range without a step, by its name
    size = experiment.space.grid_size()
    if size is not None and size > MOST_GRID_POINTS:
        raise ConfigError(
            f"a grid may have {MOST_GRID_POINTS:,} points, but this one has {size:,}. Take larger steps, or write "
            "`sampler: qmc`, which covers a space of any size evenly.",
            experiment.where("search", "sampler"),
        )


def _admitted(
    experiment: Experiment, tasks: tuple[Task, ...], count: int, *, where: Where, fixed: Mapping[str, Any] = NOTHING
) -> list[TrialConfig]:
    """`count` random configurations, beside what is fixed, that satisfy the constraints and can serve the tasks."""
    space, chooser = experiment.space, Random(random.Random(derive_seed(experiment.search.seed, "plan")), fixed)
    admitted: list[TrialConfig] = []
    refused: str | None = None
    for _ in range(FEASIBILITY_DRAWS):
        config = space.suggest(chooser)
        reason = _refusal(space, config, tasks)
        if reason is None:
            admitted.append(config)
            if len(admitted) == count:
                return admitted
        else:
            refused = reason
    if admitted:
        return admitted
    raise ConfigError(f"nothing described here can run; the last of {FEASIBILITY_DRAWS} tried: {refused}", where)


def _refusal(space: Space, config: TrialConfig, tasks: tuple[Task, ...]) -> str | None:
    if (constraint := space.violated(config)) is not None:
        return f"the constraint `{constraint.text}` is violated"
    return config.model.infeasible(len(tasks))


def _versions() -> dict[str, str]:
    names = ("torch", "ray", "optuna", "wandb", "numpy", "pyarrow", "torchmetrics")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def _git_commit() -> str | None:
    """The commit of the folder that the search is started in; None where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

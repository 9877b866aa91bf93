"""From a space file to a plan that can run: what can be refused is refused here, before anything is written."""

from __future__ import annotations

import json
import platform
import random
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mtlsearch import __version__
from mtlsearch.config import Served, Task, TrialConfig
from mtlsearch.config.balancing.gradient import missing_extra
from mtlsearch.config.model.experts import Expert
from mtlsearch.data import DataSchema, tasks_of
from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder.storage import is_uri
from mtlsearch.objective import check_defined, check_metric
from mtlsearch.records import derive_seed
from mtlsearch.search import Earlier, first_configurations, read_earlier
from mtlsearch.space import CategoryDomain, Experiment, Random, Space
from mtlsearch.space.task_weights import check_task_weights
from mtlsearch.space.tree import Branches, branch_kinds, leaves

FEASIBILITY_DRAWS = 1000
"""Random configurations tried before a space is called empty."""

MOST_GRID_POINTS = 100_000
"""All points are listed before the first trial, to drop those that constraints forbid."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Plan:
    """An experiment whose parts fit together."""

    experiment: Experiment
    served: Served
    earlier: Earlier | None = None
    """What an earlier search gives; None where none is named."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is learned."""
        return self.served.tasks

    def over(self, schema: DataSchema) -> Plan:
        """The plan held against the data itself, of which a space file only knows where it is.

        Raises:
            ConfigError: a choice of model that could never run on it, or an objective that it leaves undefined.
        """
        served = Served(schema.tasks, schema.has_steps, schema.categories, schema.num_columns)
        _check_can_run(self.experiment, served)
        alike = zip(schema.tasks, schema.counts("validation").alike, strict=True)
        check_defined(
            self.experiment.objective.metric,
            schema.tasks,
            {task.name: labels for task, labels in alike if labels is not None},
            self.experiment.where("objective", "metric"),
        )
        earlier = _read_earlier(self.experiment, served, schema.data_digest)
        return replace(self, served=served, earlier=earlier)

    @property
    def never_proposed(self) -> tuple[str, ...]:
        """Kinds of experts that the space lists though they cannot read this data."""
        if self.served.has_steps:
            return ()
        listed = branch_kinds(self.experiment.space.root, Expert)
        return tuple(dict.fromkeys(kind.model_fields["kind"].default for kind in listed if kind.reads_steps))

    def first(self, count: int) -> list[TrialConfig]:
        """The first configurations that the search will propose, as far as no result can change them."""
        return first_configurations(self.experiment, self.served, count, self.earlier)

    @property
    def num_finals(self) -> int:
        """Most trials of the final ranking."""
        final = self.experiment.final
        if final is None:
            return 0
        return final.seeds * (len(self.tasks) + min(final.top_k, self.experiment.budget.trials))

    def extremes(self) -> list[TrialConfig]:
        """Of each choice of model, the smallest and the largest configuration that could be proposed, by estimate."""
        return self.experiment.space.extremes(lambda config: config.model.infeasible(self.served) is None)

    def to_json(self) -> dict[str, Any]:
        """plan.json: what made this experiment, enough to make it again."""
        return {
            "mtlsearch": __version__,
            "name": self.experiment.name,
            "source": str(self.experiment.source),
            "overrides": list(self.experiment.overrides),
            "seed": self.experiment.search.seed,
            "storage": self.experiment.search.storage,
            "driver": uuid.uuid4().hex,
            "data": self.experiment.data.model_dump(mode="json"),
            "tasks": [task.model_dump() for task in self.tasks],
            "objective": self.experiment.objective.metric,
            "final": None if self.experiment.final is None else self.experiment.final.model_dump(),
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
    check_task_weights(experiment, tasks)
    _check_countable(experiment)
    served = Served(tasks, experiment.data.has_steps)
    _check_can_run(experiment, served)
    return Plan(experiment, served, _read_earlier(experiment, served, None))


def _read_earlier(experiment: Experiment, served: Served, data_digest: str | None) -> Earlier | None:
    return None if experiment.search.warm_start is None else read_earlier(experiment, served, data_digest)


def _check_can_run(experiment: Experiment, served: Served) -> None:
    """What is enqueued, each component of a choice and each value of a model must be able to run: a search would pass
    over what never can without a word."""
    space = experiment.space
    for index, fixed in enumerate(experiment.search.enqueue):
        where = experiment.where("search", "enqueue", index)
        _admitted(experiment, served, 1, where=where, fixed=space.assign(fixed))
    _admitted(experiment, served, 1, where=experiment.where("space", "model"))
    # What the user's own constraints rule out is ruled out on purpose.
    experiment = replace(experiment, space=replace(space, constraints=()))
    for section, node in space.root.fields:
        options = node.options if isinstance(node, Branches) and len(node.options) > 1 else ()
        for index, (label, _) in enumerate(options):
            where = experiment.where("space", section, "choice", index)
            _admitted(experiment, served, 1, where=where, fixed={section: label})
    for name, leaf in leaves(space.root, ""):
        if leaf.where is not None and name.startswith("model.") and isinstance(leaf.domain, CategoryDomain):
            for option in leaf.domain.options:
                _admitted(experiment, served, 1, where=leaf.where, fixed=space.way_to(name) | {name: option})


def check_machine(experiment: Experiment) -> None:
    """Refuses trials that this machine is too small for; clusters are asked when they are connected.

    Raises:
        ConfigError: one trial needs more CPUs than there are.
    """
    resources = experiment.resources
    workers, have = resources.least_workers, num_cpus()
    wanted = workers * resources.cpus_per_worker
    if wanted > have:
        raise ConfigError(
            f"one trial needs {wanted} CPUs ({workers} workers of {resources.cpus_per_worker}), "
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
    data, search, overrides = experiment.data, experiment.search, [f"name={json.dumps(experiment.name)}"]
    if data.path is not None:
        path = _absolute(data.path)
        data = data.model_copy(update={"path": path})
        overrides.append(f"data.path={json.dumps(path)}")
    if data.source == "table" and data.sequence is not None and data.sequence.static_path is not None:
        path = _absolute(data.sequence.static_path)
        data = data.model_copy(update={"sequence": data.sequence.model_copy(update={"static_path": path})})
        overrides.append(f"data.sequence.static_path={json.dumps(path)}")
    if search.warm_start is not None and not is_uri(search.warm_start):
        path = _absolute(search.warm_start, experiment.source.parent)  # a resume reads the space file elsewhere
        search = search.model_copy(update={"warm_start": path})
        overrides.append(f"search.warm_start={json.dumps(path)}")
    return replace(experiment, data=data, search=search, overrides=(*experiment.overrides, *overrides))


def _absolute(path: str, start: Path = Path()) -> str:
    return str((start / Path(path).expanduser()).resolve())


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
    experiment: Experiment, served: Served, count: int, *, where: Where, fixed: Mapping[str, Any] = NOTHING
) -> list[TrialConfig]:
    """`count` random configurations, beside what is fixed, that satisfy the constraints and can serve the tasks."""
    space, chooser = experiment.space, Random(random.Random(derive_seed(experiment.search.seed, "plan")), fixed)
    admitted: list[TrialConfig] = []
    reasons: dict[str, None] = {}
    for _ in range(FEASIBILITY_DRAWS):
        config = space.suggest(chooser)
        reason = _refusal(space, config, served)
        if reason is None:
            admitted.append(config)
            if len(admitted) == count:
                return admitted
        else:
            reasons[reason] = None
    if admitted:
        return admitted
    *others, last = reasons
    tried = f" (and {len(others)} more such reasons in {FEASIBILITY_DRAWS} draws)" if others else ""
    raise ConfigError(f"nothing described here can run: {last}{tried}", where)


def _refusal(space: Space, config: TrialConfig, served: Served) -> str | None:
    if (constraint := space.violated(config)) is not None:
        return f"the constraint `{constraint.text}` is violated"
    return config.model.infeasible(served) or missing_extra(config.balancing)


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

"""One driver, from a plan or a folder to a finished search."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Console

from mtlsearch.data import Store, open_store
from mtlsearch.data.feed import choose_feed
from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder import ExperimentFolder, check_new
from mtlsearch.folder.files import is_disk_full
from mtlsearch.folder.storage import Place
from mtlsearch.orchestrate.plan import Plan, check_machine, make_plan
from mtlsearch.orchestrate.session import Session
from mtlsearch.search import check_storage, read_records, study_of
from mtlsearch.space import read_experiment
from mtlsearch.tracking import Tracker, terminal_tracker

Engine = Literal["ray", "local"]


@dataclass(frozen=True)
class Driver:
    """Where a search runs and who looks on."""

    console: Console
    engine: Engine = "ray"
    address: str | None = None
    """A Ray cluster's address, `auto` for the one of this machine; None starts Ray for this search."""

    def run(self, plan: Plan, out: Place) -> ExperimentFolder:
        """A new search in a new folder or storage.

        Raises:
            ConfigError: the folder exists, the data cannot be read, or the machines are too small. Nothing is written.
        """
        self._check_machine(plan)
        check_new(out)
        check_storage(plan.experiment, plan.served)
        store = open_store(plan.experiment.data)
        plan = plan.over(store.schema)
        check_storage(plan.experiment, plan.served, store.schema.data_digest)
        with self._machines(plan):
            made_from = plan.to_json() | {"data_digest": store.schema.data_digest}
            schema = store.schema.model_dump_json(indent=1)
            folder = ExperimentFolder.create(out, plan.experiment.text, made_from, schema)
            self._say_feed(store, plan)
            self._search(plan, folder)
        return folder

    def resume(self, folder: ExperimentFolder) -> None:
        """Goes on with what the folder holds.

        Raises:
            ConfigError: the data is another than the search began with, or another process drives it.
        """
        before = folder.read_plan()
        experiment = read_experiment(folder.space, tuple(before.get("overrides", ())))
        if any(record.role == "trial" for record in read_records(study_of(folder))):  # taken over is in the study now
            search = experiment.search.model_copy(update={"warm_start": None})
            experiment = replace(experiment, search=search)
        plan = make_plan(experiment)
        self._check_machine(plan)
        store = open_store(experiment.data)
        digest = store.schema.data_digest
        if digest != before.get("data_digest"):
            raise ConfigError(
                f"{folder.name} began with data {before.get('data_digest')}, but {experiment.data.source} is now "
                f"{digest}. Scores on different data cannot be ranked together: start a new search."
            )
        plan = plan.over(store.schema)
        with self._machines(plan):
            self._say_feed(store, plan)
            self._search(plan, folder)

    def _say_feed(self, store: Store, plan: Plan) -> None:
        self._say(f"data: {choose_feed(store, plan.experiment.resources).sentence}")

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _check_machine(self, plan: Plan) -> None:
        """Refuses what needs no cluster to be refused; the cluster is asked when it is connected."""
        resources, where = plan.experiment.resources, plan.experiment.where("resources", "workers_per_trial")
        if self.engine == "local" and resources.least_workers > 1:
            raise ConfigError(
                f"--engine local trains with one worker, but resources.workers_per_trial is at least "
                f"{resources.least_workers}. Leave --engine out.",
                where,
            )
        if self.engine == "local" or self.address is None:
            check_machine(plan.experiment)

    def _machines(self, plan: Plan) -> AbstractContextManager[None]:
        if self.engine == "local":
            return nullcontext()
        from mtlsearch.orchestrate.machines import cluster  # a second of imports

        return cluster(self.address, plan.experiment)

    def _search(self, plan: Plan, folder: ExperimentFolder) -> None:
        with folder.driven():
            if plan.earlier is not None:
                self._say(f"warm start: {plan.earlier.sentence}")
            trackers = self._trackers(plan, folder)
            session = Session(plan.experiment, plan.served, folder, trackers, plan.earlier)
            with _full_disk_explained(folder), session.searching():
                if self.engine == "ray":
                    from mtlsearch.orchestrate.ray_tune import search_on_ray

                    search_on_ray(session, self.address)
                else:
                    from mtlsearch.orchestrate.local import search_locally

                    search_locally(session)
            if plan.experiment.tracking.wandb is not None:
                from mtlsearch.orchestrate.mirror import publish_at_end

                publish_at_end(plan.experiment, folder, trackers)

    def _trackers(self, plan: Plan, folder: ExperimentFolder) -> list[Tracker]:
        trackers: list[Tracker] = [terminal_tracker(self.console)]
        if plan.experiment.tracking.wandb is not None:
            from mtlsearch.orchestrate.mirror import mirrored
            from mtlsearch.tracking.wandb import WandbTracker

            trackers.append(WandbTracker(mirrored(plan.experiment, folder)))
        return trackers


@contextmanager
def _full_disk_explained(folder: ExperimentFolder) -> Iterator[None]:
    """What the driver itself could not write is no less of a case for people than a checkpoint."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise MtlsearchError(
            f"the disk of this host is full: {error}. Nothing is lost. Make room, then go on with: "
            f"mtlsearch resume {shlex.quote(folder.name)}"
        ) from error

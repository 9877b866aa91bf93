"""Searches on the small flights, on either engine, and their studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from mtlsearch.data import open_store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.local import search_locally
from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.orchestrate.session import Session
from mtlsearch.space import read_experiment
from mtlsearch.tracking import Tracker

PRUNERS = [
    "none",
    "median",
    "percentile",
    "{kind: hyperband, reduction_factor: 2}",
    "{kind: successive_halving, reduction_factor: 2}",
    "{kind: wilcoxon, p_threshold: 0.4}",
    "{kind: patient, patience: 0}",
    "{kind: threshold, lower: -0.05}",
]


def search(
    space: Path, out: Path, *changes: str, engine: str = "local", trackers: Sequence[Tracker] = ()
) -> ExperimentFolder:
    """Runs a search; on Ray, on the cluster that the test session has."""
    plan = make_plan(read_experiment(space, changes))
    digest = open_store(plan.experiment.data).schema.data_digest
    folder = ExperimentFolder.create(out, plan.experiment.text, plan.to_json() | {"data_digest": digest}, "{}")
    with folder.driven():
        session = Session(plan.experiment, plan.served, folder, trackers)
        with session.searching():
            if engine == "local":
                search_locally(session)
            else:
                from mtlsearch.orchestrate.machines import cluster
                from mtlsearch.orchestrate.ray_tune import search_on_ray

                with cluster(None, plan.experiment):
                    search_on_ray(session, None)
    return folder


def study(folder: ExperimentFolder) -> list[optuna.trial.FrozenTrial]:
    """The study as anybody with Optuna reads it."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder.journal))
    storage = optuna.storages.JournalStorage(backend)
    (only,) = storage.get_all_studies()
    return optuna.load_study(study_name=only.study_name, storage=storage).get_trials()


def facts(trials: Sequence[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    """What must agree between two studies."""
    return [(t.number, t.state, t.value, t.params, t.intermediate_values, t.user_attrs) for t in trials]

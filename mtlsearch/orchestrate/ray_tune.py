"""The search on Ray: Tune places trials on machines, our study decides what they are and when they end.

Ray's own `OptunaSearch` fixes Optuna's pruner and tells a trial that a scheduler stopped to the study as complete;
so a `Searcher` and a `TrialScheduler` of a few lines stand here, both over one `Session`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from textwrap import shorten
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mtlsearch.config import ResourcesConfig
from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.orchestrate.plan import num_cpus
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.trainable import FAILED, METRICS, ORDER, SETTING, TEST, Setting, Trial
from mtlsearch.records import EpochMetrics, TrialOrder
from mtlsearch.space import Experiment

SLOTS_SECONDS = 2.0
"""How long an answer of the cluster's size is used."""

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least, nearly: trials read their data from memory-mapped files, not from Ray's object store."""

MOST_ACTORS = 10_000
"""No bound: as many trials run at once as the cluster has room for."""

MOST_OF_A_REASON = 500
"""Characters of an error that stand beside its trial; some errors list all that is wrong."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we log ourselves
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: the study is resumable at any moment
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_RESULT_BUFFER_LENGTH": "0",  # a decision after every epoch
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are not used: the study is the truth
    # All slots' actors start together. One by one, the second would be started for a trial that the first, done
    # sooner, takes over, and be killed, again and again while trials are shorter than an actor's start.
    "TUNE_MAX_PENDING_TRIALS_PG": str(MOST_ACTORS),  # _Bridge.room bounds them
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@contextmanager
def cluster(address: str | None, experiment: Experiment) -> Iterator[None]:
    """Ray, started here when no address is given, and shut down again.

    Raises:
        ConfigError: the cluster cannot be reached, or one trial asks for more than it has.
    """
    joined = ray.is_initialized()
    if not joined:
        start_ray(address)
    try:
        _check_capacity(experiment)
        yield
    finally:
        if not joined:
            ray.shutdown()


def search_on_ray(session: Session) -> None:
    """Runs the search on the cluster that is connected, then scores the test split for the best.

    Raises:
        MtlsearchError: the search cannot go on, or a test score could not be had.
    """
    resources = session.experiment.resources
    folder = session.folder.path.resolve()
    bridge = _Bridge(session, Setting(session.experiment.data, folder, resources).json())
    scratch = folder / ".tune"  # Tune insists on a place of its own; a driver that was killed left one
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        tune.Tuner(
            tune.with_resources(Trial, _placement(resources)),
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(bridge),
                scheduler=StudyScheduler(bridge),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[],
                failure_config=tune.FailureConfig(max_failures=resources.max_retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if bridge.error is not None:
        raise bridge.error


class _Bridge:
    """Tune's names for trials and ours, and the room that the cluster has."""

    def __init__(self, session: Session, setting: str) -> None:
        self.session, self.setting = session, setting
        self.numbers: dict[str, int] = {}
        self.tests: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.error: MtlsearchError | None = None
        self._resources = session.experiment.resources
        self._untested: deque[TrialOrder] | None = None
        self._slots, self._slots_until = 0, 0.0

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune pickles its searcher for a restore that never happens: a resume starts anew over the study."""
        return object, ()

    def room(self) -> bool:
        """Whether one more trial fits now. Tune would ask for one more than fits, before it can know the results
        of those that run."""
        if time.monotonic() > self._slots_until:  # asking the cluster takes 2 ms a question
            self._slots, self._slots_until = _slots(self._resources), time.monotonic() + SLOTS_SECONDS
        return len(self.numbers) + len(self.tests) < self._slots

    def next(self, trial_id: str) -> TrialOrder | None:
        """The next order, remembered under Tune's name."""
        order = self.session.next() if self.room() else None
        if order is not None:
            self.numbers[trial_id] = order.number
        return order

    def next_test(self, trial_id: str) -> TrialOrder | None:
        """The next trial whose test score is missing: a final one at once, the others after the search. The trials'
        idle processes score it."""
        if self._untested is None and self.session.finished:
            under_way = set(self.tests.values())
            self._untested = deque(order for order in self.session.untested() if order.number not in under_way)
        waiting = self.session.ended_finals if self._untested is None else self._untested
        order = waiting.popleft() if waiting and self.room() else None
        if order is not None:
            self.tests[trial_id] = order.number
        return order

    @property
    def finished(self) -> bool:
        """Whether there is nothing to start any more."""
        return self.error is not None or (self.session.finished and self._untested is not None and not self._untested)


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Hands the session's orders to Tune."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None to be asked again later, FINISHED at the end."""
        try:
            if (order := self._bridge.next_test(trial_id)) is not None:
                return {ORDER: order.model_dump_json(), SETTING: self._bridge.setting, TEST: True}
            order = self._bridge.next(trial_id) if self._bridge.error is None else None
            if order is not None:
                return {ORDER: order.model_dump_json(), SETTING: self._bridge.setting, TEST: False}
        except MtlsearchError as error:
            self._bridge.error = error
        return str(Searcher.FINISHED) if self._bridge.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes test scores. A trial that the study does not know the end of has failed."""
        result = result or {}
        if (number := self._bridge.tests.pop(trial_id, None)) is not None:
            if TEST in result:
                self._bridge.session.keep_test(number, json.loads(result[TEST]))
            else:
                self._bridge.error = MtlsearchError(f"trial {number} could not be scored on test; resume to try again")
        elif (number := self._bridge.numbers.pop(trial_id, None)) is not None:
            reason = result.get(FAILED) or self._bridge.errors.pop(trial_id, "Tune gave it up without a reason")
            self._bridge.session.fail(number, reason)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resume starts a new Tuner over the study."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """Passes every epoch to the session, and its decision to Tune."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._keeps_actors = False

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Has Tune keep idle actors. It would stop them while baselines are waited for, and start them anew after."""
        if not self._keeps_actors:
            controller._actor_cache.increase_max(trial.placement_group_factory, by=MOST_ACTORS)
            self._keeps_actors = True

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """Notes why a trial was given up, after its last retry; Tune tells the searcher only that it was."""
        self._bridge.errors[trial.trial_id] = _reason(Path(trial.error_file))

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP when the study has ended the trial."""
        metrics = EpochMetrics.model_validate_json(result[METRICS])
        if not self._bridge.session.report(self._bridge.numbers[trial.trial_id], metrics).stops:
            return str(TrialScheduler.CONTINUE)
        del self._bridge.numbers[trial.trial_id]
        return str(TrialScheduler.STOP)


def _reason(errors: Path) -> str:
    """The last failure's own words: the error below the frames of a traceback, the first line of anything else.

    Args:
        errors: Tune's file, which begins each failure with a line `Failure # 2 (occurred at …)`. An actor that cannot
            start has frames there too, under Ray's own words, which tell only that it died.
    """
    _, _, last = errors.read_text().rpartition("Failure # ")
    lines = [line for line in last.splitlines()[1:] if line.strip()]
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    below = dropwhile(lambda line: line.startswith(" "), lines[frames[-1] + 1 :] if frames else ())
    reason = " ".join(line.strip() for line in below) or lines[0].strip()
    return shorten(reason, MOST_OF_A_REASON, placeholder=" …")


def start_ray(address: str | None) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
    }
    if address is None:
        options |= {"num_cpus": num_cpus(), "object_store_memory": OBJECT_STORE_BYTES}
    try:
        _knock(address)
        ray.init("local" if address is None else address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, or leave "
            "--address out to use this machine."
        ) from error


def _knock(address: str | None) -> None:
    """Raises OSError when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=5).close()


def _check_capacity(experiment: Experiment) -> None:
    resources = experiment.resources
    have = ray.cluster_resources()
    wanted = {
        "CPU": float(resources.workers_per_trial * resources.cpus_per_worker),
        "GPU": resources.workers_per_trial * resources.gpus_per_worker,
    }
    for name, amount in wanted.items():
        if amount > have.get(name, 0.0):
            raise ConfigError(
                f"one trial needs {amount:g} {name}s ({resources.workers_per_trial} workers of "
                f"{amount / resources.workers_per_trial:g}), but the cluster has {have.get(name, 0.0):g}. "
                "Lower resources.workers_per_trial, or add machines.",
                experiment.where("resources", "workers_per_trial"),
            )


def _placement(resources: ResourcesConfig) -> tune.PlacementGroupFactory:
    bundle = {"CPU": float(resources.cpus_per_worker)}
    if resources.gpus_per_worker > 0:
        bundle["GPU"] = resources.gpus_per_worker
    return tune.PlacementGroupFactory([bundle] * resources.workers_per_trial)


def _slots(resources: ResourcesConfig) -> int:
    have = ray.cluster_resources()
    fits = [int(have.get("CPU", 0.0) // (resources.workers_per_trial * resources.cpus_per_worker))]
    if resources.gpus_per_worker > 0:
        fits.append(int(have.get("GPU", 0.0) / (resources.workers_per_trial * resources.gpus_per_worker) + 1e-9))
    return max(1, min([*fits, *([resources.max_concurrent] if resources.max_concurrent else [])]))

"""The search on Ray: Tune places trials on machines, our study decides what they are and when they end.

Ray's own `OptunaSearch` fixes Optuna's pruner and tells a trial that a scheduler stopped to the study as complete;
so a `Searcher` and a `TrialScheduler` of a few lines stand here, both over one `Session`.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._private import ray_constants
from ray.autoscaler.sdk import request_resources
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mtlsearch.config import ResourcesConfig
from mtlsearch.errors import ConfigError, Interrupted, MtlsearchError
from mtlsearch.orchestrate.faults import Fault, fault_of
from mtlsearch.orchestrate.hub import draining_nodes, start_hub
from mtlsearch.orchestrate.keeper import start_keeper
from mtlsearch.orchestrate.lookout import Lookout
from mtlsearch.orchestrate.plan import num_cpus
from mtlsearch.orchestrate.scratch import scratch
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.trainable import (
    FAILED,
    ORDER,
    REPORT,
    SETTING,
    START,
    TEST,
    TRACEBACK,
    Setting,
    Trial,
    bundle,
)
from mtlsearch.records import EpochReport, TrialOrder, TrialStart
from mtlsearch.space import Experiment

SLOTS_SECONDS = 2.0
"""How long an answer of the cluster's size is used."""

JOIN_SECONDS = 900.0
"""How long a cluster that grows on demand may take to have room for a first trial."""

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least, nearly: trials read their data from memory-mapped files, not from Ray's object store."""

STOP_SECONDS = 30.0
"""How long a search that is asked to stop waits for its trials' checkpoints."""

MOST_ACTORS = 10_000
"""No bound: as many trials run at once as the cluster has room for."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we log ourselves
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: the study is resumable at any moment
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_RESULT_BUFFER_LENGTH": "0",  # a decision after every epoch
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are not used: the study is the truth
    # All slots' actors start together. One by one, the second would be started for a trial that the first, done
    # sooner, takes over, and be killed, again and again while trials are shorter than an actor's start.
    "TUNE_MAX_PENDING_TRIALS_PG": str(MOST_ACTORS),  # Bridge._room bounds them
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A node's processes are out of reach before its health checks say that it is gone. With Ray's second of patience
    # such a trial would have lost its process only, which is counted.
    "RAY_timeout_ms_task_wait_for_death_info": "30000",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # a rank's error is told by the trial that it ended
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
        _await_capacity(experiment)
        yield
    finally:
        if not joined:
            ray.shutdown()


def search_on_ray(session: Session, address: str | None) -> None:
    """Runs the search on the cluster that is connected, then scores the test split for the best.

    Args:
        address: the cluster's, when it may have other hosts than this one.
    Raises:
        MtlsearchError: the search cannot go on, or a test score could not be had.
    """
    folder, token = session.folder.path.resolve(), session.token
    setting = Setting(
        session.experiment.data,
        session.experiment.resources,
        folder,
        token=token,
        keeper=f"keeper-{token}",
        hub=f"hub-{token}",
        driver_place=str(Path.cwd()),
        storage=session.folder.uri,
    )
    bridge = Bridge(session, setting.json())
    actors = [hub := start_hub(setting.hub)]
    if address is not None:  # there may be hosts that do not see the folder
        actors.append(start_keeper(folder, setting.keeper))
    with (
        scratch() as place,
        Lookout(hub, session.folder, bridge, session.experiment.resources.timeout),
    ):
        tune.Tuner(
            Trial,
            tune_config=tune.TuneConfig(
                search_alg=StudySearcher(bridge),
                scheduler=StudyScheduler(bridge),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=place,
                verbose=0,
                callbacks=[],
                stop=_AtEnd(bridge),
                failure_config=tune.FailureConfig(max_failures=0),  # whether to try again is the bridge's to say
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    for actor in actors:
        ray.kill(actor)
    if bridge.error is not None:
        raise bridge.error
    if session.folder.stop.exists():
        raise Interrupted(session.interruption)


@dataclass(frozen=True)
class Begun:
    """What one of Tune's trials is for us."""

    order: TrialOrder
    is_test: bool
    """Whether the test split is scored; else the trial is trained."""


class Bridge:
    """Tune's names for trials and ours, the room that the cluster has, and what follows from faults.

    Tune never tries again by itself: a trial that lost its processes is handed out once more, as another trial of
    Tune's, so what it then is given may differ.
    """

    def __init__(self, session: Session, setting: str) -> None:
        self.session, self.setting = session, setting
        self.error: MtlsearchError | None = None
        self._resources = session.experiment.resources
        self._begun: dict[str, Begun] = {}
        self._starts: dict[str, TrialStart] = {}
        self._again: deque[Begun] = deque()
        self._retries: Counter[int] = Counter()
        self._chunks: dict[int, int] = {}
        self._faults: dict[str, Fault] = {}
        self._untested: deque[TrialOrder] | None = None
        self._workers, self._workers_until = 0, 0.0
        self._hung: dict[int, str] = {}
        self._stop_by: float | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Tune pickles its searcher for a restore that never happens: a resume starts anew over the study."""
        return object, ()

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """What to start now, remembered under Tune's name; None while there is nothing.

        Raises:
            MtlsearchError: the search cannot go on.
        """
        workers = 0 if self._ending else self._free_workers()
        begun = self._next() if workers else None
        if begun is None:
            return None
        most = self._resources.most_workers
        start = TrialStart(
            generation=self.session.generation(),
            workers=workers,
            chunks=self._chunks.get(begun.order.number, 1) * -(-most // workers),  # as much memory as with the most
        )
        self._begun[trial_id], self._starts[trial_id] = begun, start
        return {
            ORDER: begun.order.model_dump_json(),
            SETTING: self.setting,
            START: start.model_dump_json(),
            TEST: begun.is_test,
        }

    def report(self, trial_id: str, report: EpochReport) -> bool:
        """Whether the trial goes on."""
        try:
            if not self.session.report(self._begun[trial_id].order.number, report).stops:
                return True
        except MtlsearchError as error:  # the study is in nobody's reach, or another's
            self.error = error
            return False
        del self._begun[trial_id], self._starts[trial_id]
        return False

    def note(self, trial_id: str, fault: Fault) -> None:
        """Keeps why Tune's trial failed until its end is told: Tune tells the searcher only that it did."""
        self._faults[trial_id] = fault

    def ended(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tune's trial is over. One that the study ended before is not ours any more."""
        begun, start = self._begun.pop(trial_id, None), self._starts.pop(trial_id, None)
        fault = self._faults.pop(trial_id, None)
        if begun is None or start is None or self._ending:  # what is not told stays as it is, for a resume
            return
        number = begun.order.number
        if begun.is_test and TEST in result:
            self.session.keep_test(number, json.loads(result[TEST]))
        elif FAILED in result:
            if TRACEBACK in result:
                self.session.folder.trial(number).error.write_text(result[TRACEBACK])
            self._give_up(begun, result[FAILED])
        else:
            fault = fault or Fault("error", "Tune gave it up without a reason")
            hung = self._hung.pop(start.generation, None)
            if hung is not None and fault.kind not in ("node_lost", "preempted"):  # silent: its node was gone
                fault = Fault("hung", hung)
            self._mend(begun, fault)

    @property
    def finished(self) -> bool:
        """Whether there is nothing to start any more."""
        if self._ending:
            return True
        return self.session.finished and not self._again and self._untested is not None and not self._untested

    @property
    def has_sizes(self) -> bool:
        """Whether trials may have different numbers of workers."""
        return self._resources.least_workers < self._resources.most_workers

    @property
    def ends_now(self) -> bool:
        """Whether what still runs is to be ended: on an error, or when who was asked to leave had time to."""
        if self._stop_by is None:
            return self.error is not None
        return not self._begun or time.monotonic() > self._stop_by

    @property
    def _ending(self) -> bool:
        return self.error is not None or self._stop_by is not None

    # The lookout's thread calls these ----------------------------------------------------------------

    def generations(self) -> dict[int, int]:
        """Trial → generation, of the trials that are trained now."""
        begun, starts = dict(self._begun), dict(self._starts)  # copies: Tune's thread goes on
        both = ((each, starts.get(name)) for name, each in begun.items() if not each.is_test)
        return {each.order.number: start.generation for each, start in both if start is not None}

    def hangs(self, generation: int, reason: str) -> None:
        """The processes of this start were ended, and why."""
        self._hung[generation] = reason

    def stop(self) -> None:
        """Starts nothing more, and gives what runs time to leave."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + STOP_SECONDS

    # Inside --------------------------------------------------------------------------------------------

    def _mend(self, begun: Begun, fault: Fault) -> None:
        """Hands the trial out again where that may help."""
        number = begun.order.number
        match fault.kind:
            case "preempted" | "node_lost":
                self._take_up(begun, fault.reason)
            case "out_of_memory" if number not in self._chunks:
                self._chunks[number] = 2
                self._take_up(begun, f"out of memory; now half the batch at a time ({fault.reason})")
            case "out_of_memory":
                self._give_up(begun, f"out of memory, also with half the batch at a time: {fault.reason}")
            case "disk_full":
                self.error = MtlsearchError(
                    f"trial {number} could not write its checkpoint: {fault.reason}. Make room, then go on with: "
                    f"mtlsearch resume {self.session.folder.name}"
                )
            case "storage_lost":
                self.error = MtlsearchError(
                    f"trial {number} could not reach its checkpoints: {fault.reason}. When the storage answers, go on "
                    f"with: mtlsearch resume {self.session.folder.name}"
                )
            case _ if self._retries[number] < self._resources.max_retries:
                self._retries[number] += 1
                self._take_up(begun, f"{fault.reason} (retry {self._retries[number]} of {self._resources.max_retries})")
            case _:
                self._give_up(begun, fault.reason)

    def _take_up(self, begun: Begun, reason: str) -> None:
        self._again.append(begun)
        if not begun.is_test:
            self.session.restarted(begun.order.number, reason)

    def _give_up(self, begun: Begun, reason: str) -> None:
        number = begun.order.number
        if begun.is_test:
            self.error = MtlsearchError(f"trial {number} could not be scored on test ({reason}); resume to try again")
        else:
            self.session.fail(number, reason)

    def _next(self) -> Begun | None:
        """First what was begun already, then test scores, then new trials."""
        if self._again:
            return self._again.popleft()
        if (order := self._next_test()) is not None:
            return Begun(order, is_test=True)
        order = self.session.next()
        return None if order is None else Begun(order, is_test=False)

    def _next_test(self) -> TrialOrder | None:
        """The next trial whose test score is missing: a final one at once, the others after the search. The trials'
        idle processes score it."""
        if self._untested is None and self.session.finished:
            under_way = {begun.order.number for begun in (*self._begun.values(), *self._again) if begun.is_test}
            self._untested = deque(order for order in self.session.untested() if order.number not in under_way)
        waiting = self.session.ended_finals if self._untested is None else self._untested
        return waiting.popleft() if waiting else None

    def _free_workers(self) -> int:
        """Ranks for one more trial; 0 when it does not fit. Tune would ask for one more than fits, before it can know
        the results of those that run.

        As many trials as possible run at once, each with the least workers; where fewer are left, they share what is
        free.
        """
        if time.monotonic() > self._workers_until:  # asking the cluster takes milliseconds
            self._workers = room_for_workers(self._resources)
            self._workers_until = time.monotonic() + SLOTS_SECONDS
        running, most_at_once = self._starts.values(), self._resources.max_concurrent
        free = self._workers - sum(start.workers for start in running)
        least, most = self._resources.least_workers, self._resources.most_workers
        if free < least or (most_at_once is not None and len(running) >= most_at_once):
            return 0
        waiting = max(1, min(free // least, self.session.num_left + len(self._again)))
        return min(most, max(least, free // waiting))


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Hands the bridge's orders to Tune."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None to be asked again later, FINISHED at the end."""
        try:
            if (config := self._bridge.next(trial_id)) is not None:
                return config
        except MtlsearchError as error:
            self._bridge.error = error
        return str(Searcher.FINISHED) if self._bridge.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes test scores, and what did not come to its end."""
        try:
            self._bridge.ended(trial_id, result or {})
        except MtlsearchError as failed:
            self._bridge.error = failed

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a resume starts a new Tuner over the study."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray has no types
    """Passes every epoch to the session, and its decision to Tune."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._keeps_actors = bridge.has_sizes

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Has Tune keep idle actors. It would stop them while baselines are waited for, and start them anew after."""
        if not self._keeps_actors:  # of one size: others' machines would be kept from those that need them
            controller._actor_cache.increase_max(trial.placement_group_factory, by=MOST_ACTORS)
            self._keeps_actors = True

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """Notes why Tune's trial failed."""
        pickled = trial.pickled_error_file  # written by this process a moment ago, into Ray's own folder
        error = ray.cloudpickle.loads(Path(pickled).read_bytes()) if pickled is not None else None
        _, _, text = Path(trial.error_file).read_text().rpartition("Failure # ")
        self._bridge.note(trial.trial_id, fault_of(error, text.partition("\n")[2]))

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """STOP when the study has ended the trial."""
        goes_on = self._bridge.report(trial.trial_id, EpochReport.model_validate_json(result[REPORT]))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _AtEnd(tune.Stopper):  # type: ignore[misc]  # Ray has no types
    """Ends everything when the search cannot go on; what ran stays as it is, for a resume."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Single trials are the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Whether to end now."""
        return self._bridge.ends_now


def start_ray(address: str | None) -> None:
    """Connects to a cluster, or starts one on this machine.

    Raises:
        ConfigError: no cluster answers at the address.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what fails is the bridge's to judge, and to say
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
    }
    if address is None:
        options |= {"num_cpus": num_cpus(), "object_store_memory": OBJECT_STORE_BYTES}
    _hear_only_this_machine(address is None)
    try:
        _knock(address)
        ray.init("local" if address is None else address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--address {address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, or leave "
            "--address out to use this machine."
        ) from error


def _hear_only_this_machine(only: bool) -> None:
    """Whether Ray's ports are bound to loopback, as it binds them on a Mac; who reaches one can run code here.

    `ray.init(_node_ip_address="127.0.0.1")` would take that for the machine's address in its network.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0" if only else "1"  # for the processes that Ray starts
    ray_constants.ENABLE_RAY_CLUSTER = not only


def _knock(address: str | None) -> None:
    """Raises OSError when nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=5).close()


def _await_capacity(experiment: Experiment) -> None:
    """Waits for machines to join where the space file says how many trials are wanted at once: a cluster that grows on
    demand is told of them. Else what is there has to do.

    Raises:
        ConfigError: one trial asks for more than there is.
    """
    resources = experiment.resources
    if resources.max_concurrent is not None:
        wanted = resources.max_concurrent * resources.least_workers
        request_resources(bundles=[bundle(resources)] * wanted)
    deadline = time.monotonic() + (JOIN_SECONDS if resources.max_concurrent is not None else 0)
    while room_for_workers(resources) < resources.least_workers:
        if time.monotonic() > deadline:
            raise ConfigError(_too_small(resources), experiment.where("resources", "workers_per_trial"))
        time.sleep(SLOTS_SECONDS)


def _too_small(resources: ResourcesConfig) -> str:
    have, need = ray.cluster_resources(), resources.least_workers
    each = " and ".join(f"{amount:g} {name}s" for name, amount in bundle(resources).items())
    total = ", ".join(f"{amount * need:g} {name}s" for name, amount in bundle(resources).items())
    return (
        f"one trial needs {total} ({need} workers of {each}), but the cluster has {have.get('CPU', 0.0):g} CPUs and "
        f"{have.get('GPU', 0.0):g} GPUs, room for {room_for_workers(resources)} such workers. Lower "
        "resources.workers_per_trial, or add machines."
    )


def room_for_workers(resources: ResourcesConfig) -> int:
    """Ranks that fit on the machines that are there and are to stay."""
    leaving = draining_nodes()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in leaving]
    wanted = bundle(resources).items()
    return sum(min(int(has.get(name, 0.0) / amount + 1e-9) for name, amount in wanted) for has in nodes)

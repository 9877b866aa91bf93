"""Ray's cluster: started or joined, and the room that it has for trials."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants
from ray.autoscaler.sdk import request_resources

from mtlsearch.config import ResourcesConfig
from mtlsearch.errors import ConfigError
from mtlsearch.orchestrate.hub import draining_nodes
from mtlsearch.orchestrate.plan import num_cpus
from mtlsearch.orchestrate.trainable import bundle
from mtlsearch.space import Experiment

JOIN_SECONDS = 900.0
"""How long a cluster that grows on demand may take to have room for a first trial."""

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's least, nearly: trials read their data from memory-mapped files, not from Ray's object store."""

MOST_ACTORS = 10_000
"""No bound: as many trials run at once as the cluster has room for."""

LOOK_SECONDS = 2.0
"""Between looks at a cluster that grows."""

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we log ourselves
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours: the study is resumable at any moment
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_RESULT_BUFFER_LENGTH": "0",  # a decision after every epoch
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own snapshots are not used: the study is the truth
    # All slots' actors start together. One by one, the second would be started for a trial that the first, done
    # sooner, takes over, and be killed, again and again while trials are shorter than an actor's start.
    "TUNE_MAX_PENDING_TRIALS_PG": str(MOST_ACTORS),  # the bridge bounds them
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
        _await_capacity(experiment, may_grow=address is not None)
        yield
    finally:
        if address is not None:
            request_resources(bundles=[])  # it may shrink
        if not joined:
            ray.shutdown()


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


def _await_capacity(experiment: Experiment, *, may_grow: bool) -> None:
    """Waits for machines to join where the space file says how many trials are wanted at once: a cluster that grows on
    demand is told of them. Else what is there has to do.

    Raises:
        ConfigError: one trial asks for more than there is.
    """
    resources = experiment.resources
    wanted = (resources.max_concurrent or 0) * resources.least_workers if may_grow else 0
    if wanted:
        request_resources(bundles=[bundle(resources)] * wanted)
    deadline = time.monotonic() + (JOIN_SECONDS if wanted else 0)
    while room_for_workers(resources) < resources.least_workers:
        if time.monotonic() > deadline:
            raise ConfigError(_too_small(resources), experiment.where("resources", "workers_per_trial"))
        time.sleep(LOOK_SECONDS)


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

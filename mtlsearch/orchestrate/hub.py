"""What runs where: every rank tells an actor beside the driver how far it is, and hears whether it is to leave.

A rank tells from a thread of its own, so it is heard while it trains; one that is stopped, or cut off, is not.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if TYPE_CHECKING:
    from mtlsearch.train.watch import Watch

NAMESPACE = "mtlsearch"
PULSE_SECONDS = 1.0


class Pulse(TypedDict):
    """What a rank tells."""

    trial: int | None
    """None while the process has no trial."""
    generation: int
    rank: int
    epoch: int
    step: int
    busy: bool
    """Whether it works; else it waits for the driver."""
    idle: float
    """Seconds without a step, and without use of a CPU, while it is busy."""
    node: str
    """Ray's id."""
    host: str
    pid: int
    cpu: float
    """Percent of one CPU."""
    memory: int
    """Bytes resident."""
    gpu: float | None
    """Percent; None without a GPU, or where nvidia-ml-py is not installed."""
    gpu_memory: int | None
    """Bytes that the process reserved."""


class Heard(TypedDict):
    """A pulse, and how long ago it came."""

    pulse: Pulse
    seconds: float


class Hub:
    """The actor. Ranks and the driver call it; none of them waits for another."""

    def __init__(self) -> None:
        self._start = uuid.uuid4().hex
        self._pulses: dict[tuple[str, int], tuple[float, Pulse]] = {}
        self._leaving: dict[str, str] = {}
        self._everybody: str | None = None

    def pulse(self, pulse: Pulse) -> str | None:
        """Takes a pulse; the answer is why the rank is to leave, or None."""
        self._pulses[pulse["host"], pulse["pid"]] = time.monotonic(), pulse
        return self._everybody or self._leaving.get(pulse["node"])

    def heard(self, forget_after: float) -> tuple[str, list[Heard]]:
        """Which start of the hub this is, and the last pulse of every process, those of long ago dropped."""
        now = time.monotonic()
        self._pulses = {who: last for who, last in self._pulses.items() if now - last[0] < forget_after}
        return self._start, [{"pulse": pulse, "seconds": now - when} for when, pulse in self._pulses.values()]

    def forget(self, host: str, pid: int) -> None:
        """Drops a process that was ended."""
        self._pulses.pop((host, pid), None)

    def wish(self, leaving: dict[str, str], everybody: str | None) -> None:
        """Which nodes' ranks are to leave, by node and reason; `everybody`: why all are."""
        self._leaving, self._everybody = leaving, everybody


def start_hub(name: str) -> Any:
    """The actor, under a name for the ranks; it lives as long as the handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Hub).options(
        name=name, namespace=NAMESPACE, num_cpus=0, scheduling_strategy=here, max_restarts=-1
    )
    return actor.remote()  # one that was killed starts again, and hears all within a second


class Pulses:
    """The thread of a rank's process that tells of its watch."""

    def __init__(self, hub: str, rank: int, watch: Watch) -> None:
        self._hub, self._rank, self._watch = ray.get_actor(hub, NAMESPACE), rank, watch
        self._node = ray.get_runtime_context().get_node_id()
        self._cpu, self._cpu_at, self._used_at = time.process_time(), time.monotonic(), time.monotonic()
        threading.Thread(target=self._tell, name="pulses", daemon=True).start()

    def _tell(self) -> None:
        while True:
            try:
                reason = ray.get(self._hub.pulse.remote(self._pulse()), timeout=10 * PULSE_SECONDS)
            except RayError:  # no hub, or no way to it: the driver takes silence for what it is
                reason = None
            if reason is not None:
                self._watch.leave = reason
            time.sleep(PULSE_SECONDS)

    def _pulse(self) -> Pulse:
        watch, now = self._watch, time.monotonic()
        cpu = time.process_time()
        percent = 100 * (cpu - self._cpu) / max(now - self._cpu_at, 1e-3)
        if percent > 5 or not watch.busy:
            self._used_at = now
        self._cpu, self._cpu_at = cpu, now
        gpu, gpu_memory = _gpu_use()
        return Pulse(
            trial=watch.trial,
            generation=watch.generation,
            rank=self._rank,
            epoch=watch.epoch,
            step=watch.step,
            busy=watch.busy,
            idle=now - max(watch.since, self._used_at) if watch.busy else 0.0,
            node=self._node,
            host=socket.gethostname(),
            pid=os.getpid(),
            cpu=percent,
            memory=_resident(),
            gpu=gpu,
            gpu_memory=gpu_memory,
        )


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _gpu_use() -> tuple[float | None, int | None]:
    """Percent and bytes; asked in a rank's process, which has torch."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None, None
    try:
        percent: float | None = float(torch.cuda.utilization())
    except Exception:  # noqa: BLE001  # no nvidia-ml-py, or a share by MIG, which NVML does not tell of: no silence for it
        percent = None
    return percent, torch.cuda.memory_reserved()


def draining_nodes() -> dict[str, int]:
    """Nodes that are about to go, with the Unix time in ms at which they do, 0 where nobody said."""
    nodes: dict[str, int] = ray._private.state.state.get_draining_nodes()  # there is no public one in 2.60
    return nodes


def kill_process(node: str, pid: int) -> None:
    """Ends a process on a node of the cluster, also one that is stopped and would not hear of Ray's wish.

    Raises:
        RayError: the node is gone, or does not answer.
    """
    if node == ray.get_runtime_context().get_node_id():
        _kill(pid)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.get(ray.remote(_kill).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(pid), timeout=30)


def _kill(pid: int) -> None:
    try:
        if b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes():  # else it went, and the number is another's now
            os.kill(pid, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):  # it went by itself
        return

"""A Ray cluster of several nodes on this machine, and the processes that a search has on it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

STORE_BYTES = 80 * 1024 * 1024
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 3000,
    "health_check_failure_threshold": 5,
}
"""A node that is cut off is noticed within 15 s, not a minute."""


class Machines:
    """A head without CPUs, where drivers are, and nodes with room for one trial each.

    Attributes:
        folder: everything that the cluster and its searches write to a temporary folder or a cache.
        address: for `mtlsearch run --address`.
    """

    def __init__(self, folder: Path, num_nodes: int) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self._num_nodes = folder, num_nodes
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False, "_system_config": HEALTH}
        self._cluster = Cluster(initialize_head=True, head_node_args=head | {"temp_dir": str(folder / "ray")})
        self.address = str(self._cluster.address)
        self.mend()

    @classmethod
    @contextmanager
    def started(cls, num_nodes: int = 2) -> Iterator[Machines]:
        """All of it ends, and its files go, when this is left."""
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))  # a short path: sockets lie below
        own = {"RAY_TMPDIR": str(folder), "TMPDIR": str(folder / "tmp"), "MTLSEARCH_CACHE": str(folder / "cache")}
        own["RAY_worker_niceness"] = "0"  # else what runs beside the tests has the CPUs, and trials seem to hang
        (folder / "tmp").mkdir()
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in own.items():
                    patch.setenv(name, value)
                machines = cls(folder, num_nodes)
                try:
                    yield machines
                finally:
                    machines._cluster.shutdown()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def mend(self) -> int:
        """Has as many nodes as at first: how many of them are new."""
        for node in [node for node in self._cluster.worker_nodes if not _lives(node)]:
            self._cluster.remove_node(node, allow_graceful=False)
        missing = self._num_nodes - len(self._cluster.worker_nodes)
        for _ in range(missing):
            self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        return missing

    def lose(self, draw: random.Random) -> None:
        """A node is gone at once."""
        self._cluster.remove_node(self._pick(draw), allow_graceful=False)

    def preempt(self, draw: random.Random, seconds: float) -> None:
        """A node is told that it goes, and is gone after `seconds`."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        node = self._pick(draw)
        at = time.time_ns() // 1_000_000 + round(1000 * seconds)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, why_not = GcsClient(address=self.address).drain_node(node.node_id, reason, "spot", at)
        assert accepted, why_not
        time.sleep(seconds)
        self._cluster.remove_node(node, allow_graceful=False)

    def trials(self) -> list[int]:
        """Pids of the trials' processes, as far as they have started."""
        return [pid for pid in self._processes() if _command(pid).startswith("ray::Trial")]

    def left(self) -> dict[str, list[str]]:
        """What searches left on the cluster and in its temporary folder, by kind; nothing when all is well."""
        state = self._cluster.global_state
        groups = state.placement_group_table().values()
        actors = state.actor_table(None, None, None).values()
        left = {
            "trials' processes": [str(pid) for pid in self.trials()],
            "placement groups": [group["placement_group_id"] for group in groups if group["state"] != "REMOVED"],
            "actors": [actor["ActorClassName"] for actor in actors if actor["State"] != "DEAD"],
            "files": [path.name for path in (self.folder / "tmp").glob("*mtlsearch*")],
        }
        return {kind: names for kind, names in left.items() if names}

    def _processes(self) -> list[int]:
        """Of this cluster, not of another on this machine: their environment names the folder."""
        mark, found = f"RAY_TMPDIR={self.folder}\0".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended while we looked
        return found

    def _pick(self, draw: random.Random) -> Any:
        return draw.choice(sorted(self._cluster.worker_nodes, key=lambda node: node.node_id))


def lives(pid: int) -> bool:
    """Whether there is such a process, not counting one that ended and was not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int, signal_number: int = signal.SIGKILL) -> bool:
    """Whether the process was there to be sent the signal."""
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def _lives(node: Any) -> bool:
    return bool(node.live_processes()) and not node.dead_processes()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""

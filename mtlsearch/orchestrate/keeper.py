"""Checkpoints of trials on hosts that do not see the experiment's folder: a process beside the driver writes them.

So a cluster needs no shared mount. Where there is one, or an object store, checkpoints do not take this way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import Files

NAMESPACE = "mtlsearch"


class Keeper:
    """An actor on the driver's host, with the experiment's folder."""

    def __init__(self, experiment: str) -> None:
        self._folder = ExperimentFolder(Path(experiment))

    def names(self, trial: int) -> list[str]:
        """See `Files.names`."""
        return self._files(trial).names()

    def read(self, trial: int, name: str) -> bytes | None:
        """See `Files.read`."""
        return self._files(trial).read(name)

    def write(self, trial: int, name: str, content: bytes) -> tuple[int, str] | None:
        """See `Files.write`; its error as number and text, since Ray wraps exceptions in its own."""
        try:
            self._files(trial).write(name, content)
        except OSError as error:
            return error.errno or 0, f"{error.strerror} on the driver's host"
        return None

    def remove(self, trial: int, name: str) -> None:
        """See `Files.remove`."""
        self._files(trial).remove(name)

    def _files(self, trial: int) -> Files:
        return self._folder.trial(trial).checkpoints


def start_keeper(experiment: Path, name: str) -> Any:
    """The actor, under a name for the trials; it lives as long as the handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Keeper).options(
        name=name, namespace=NAMESPACE, num_cpus=0, scheduling_strategy=here, max_restarts=-1, max_task_retries=-1
    )
    return actor.remote(str(experiment))


class KeptFiles:
    """A trial's files in the keeper's hands; each call waits for its answer."""

    def __init__(self, keeper: str, trial: int, timeout: float) -> None:
        self._keeper = ray.get_actor(keeper, NAMESPACE)
        self._trial, self._timeout = trial, timeout

    def names(self) -> list[str]:
        """See `Files.names`."""
        names: list[str] = self._ask(self._keeper.names)
        return names

    def read(self, name: str) -> bytes | None:
        """See `Files.read`."""
        content: bytes | None = self._ask(self._keeper.read, name)
        return content

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Files.write`."""
        if (failed := self._ask(self._keeper.write, name, bytes(content))) is not None:
            raise OSError(*failed)

    def remove(self, name: str) -> None:
        """See `Files.remove`."""
        self._ask(self._keeper.remove, name)

    def _ask(self, method: Any, *arguments: Any) -> Any:
        return ray.get(method.remote(self._trial, *arguments), timeout=self._timeout)

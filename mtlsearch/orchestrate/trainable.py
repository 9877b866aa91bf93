"""A trial as Ray Tune sees it: rank 0, with its other ranks as actors in the same placement group.

The process group is made once, when Tune starts the actor, and kept for the trials that Tune hands to it after
that (`reuse_actors`): importing torch and meeting over TCP costs seconds, a new model milliseconds.
The driver imports this module too, so torch is imported where a rank starts.
"""

from __future__ import annotations

import json
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from pydantic import TypeAdapter
from ray import tune
from ray.exceptions import ActorUnavailableError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.errors import MtlsearchError, TrialLeft
from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import Files
from mtlsearch.orchestrate.faults import Fault, TrialEnded, fault_of
from mtlsearch.orchestrate.hub import Pulses
from mtlsearch.orchestrate.keeper import KeptFiles
from mtlsearch.records import TrialOrder, TrialStart, json_of

if TYPE_CHECKING:
    from mtlsearch.orchestrate.rank import Rank

ORDER, SETTING, START, TEST = "order", "setting", "start", "test"
REPORT, FAILED, TRACEBACK = "report", "failed", "traceback"

_TEXTS = ("token", "keeper", "hub", "driver_place", "storage")

PEERS_SECONDS = 30.0
"""How long, after one rank failed, the others are asked for their reasons: Ray notices a dead process at once, a dead
node after its health checks."""


@dataclass(frozen=True)
class Setting:
    """What all trials of an experiment share, as JSON, so that it crosses processes without pickling our types."""

    data: DataConfig
    resources: ResourcesConfig
    folder: Path
    """The experiment's, on the driver's host."""
    token: str
    """What the folder's drivers.json holds: who sees that there, sees the folder."""
    keeper: str
    """Name of the actor that writes to the folder for who does not see it."""
    hub: str
    """Name of the actor that hears how far every rank is."""
    driver_place: str
    """The driver's working directory: data may be given relative to it."""
    storage: str | None = None
    """The URI under which the experiment is, when it is in no folder."""

    def json(self) -> str:
        """For `from_json`."""
        data, resources = self.data.model_dump(mode="json"), self.resources.model_dump(mode="json")
        fields = {"data": data, "resources": resources, "folder": str(self.folder)}
        return json.dumps(fields | {key: getattr(self, key) for key in _TEXTS})

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """What `json` wrote."""
        fields = json.loads(text)
        data: DataConfig = TypeAdapter(DataConfig).validate_json(json.dumps(fields.pop("data")))
        resources = ResourcesConfig.model_validate_json(json.dumps(fields.pop("resources")))
        return cls(data, resources, Path(fields.pop("folder")), **fields)

    def start_rank(self, rank: int = 0, size: int = 1, address: str | None = None) -> Rank:
        """A rank in this process; one of several meets the others at `address`."""
        from mtlsearch.orchestrate.rank import Rank

        if Path(self.driver_place).is_dir():  # Ray's workers start where `ray start` was called
            os.chdir(self.driver_place)
        made = Rank(self.data, self.resources, self._checkpoints(), rank=rank, size=size, address=address)
        Pulses(self.hub, rank, made.watch)
        return made

    def _checkpoints(self) -> Callable[[int], Files]:
        if self.storage is not None:
            experiment = ExperimentFolder.at(self.storage)
            return lambda trial: experiment.trial(trial).checkpoints
        drivers = self.folder / "drivers.json"
        if drivers.is_file() and self.token in drivers.read_text():
            folder = ExperimentFolder(self.folder)
            return lambda trial: folder.trial(trial).checkpoints
        return lambda trial: KeptFiles(self.keeper, trial, self.resources.timeout)


class OtherRank:
    """Rank 1, 2, … of a trial: an actor that lives and dies with rank 0, its owner."""

    def __init__(self, setting: str, rank: int, size: int, address: str) -> None:
        self._rank = Setting.from_json(setting).start_rank(rank, size, address)

    def begin(self, order: str, start: str) -> None:
        """The next `step` trains this trial."""
        self._rank.begin(TrialOrder.model_validate_json(order), TrialStart.model_validate_json(start))

    def step(self) -> None:
        """This rank's part of an epoch."""
        try:
            self._rank.step()
        except TrialLeft as left:
            raise TrialEnded("preempted", str(left)) from left
        except MtlsearchError:
            raise
        except Exception as error:
            raise _ended(error) from error


class Trial(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Rank 0. An iteration is an epoch; the driver decides when to stop.

    What ends this process's part in the trial, but perhaps not the trial, is raised as `TrialEnded`.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """One bundle a rank."""
        return tune.PlacementGroupFactory([bundle(Setting.from_json(config[SETTING]).resources)] * _workers(config))

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the ranks and their process group."""
        self._setting = Setting.from_json(config[SETTING])
        self._others: list[Any] = []
        self._rank = self._setting.start_rank() if _workers(config) == 1 else self._meet(config)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; the ranks and the data stay."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch on all ranks. A trial that cannot go on says why and is done; a lost rank is the driver's case."""
        if self._scores_test:
            return {TEST: json.dumps(self._rank.score_test(self._order, self._start.chunks)), "done": True}
        pending = [other.step.remote() for other in self._others]
        try:
            report = self._rank.step()
            ray.get(pending, timeout=self._setting.resources.timeout)
        except TrialLeft as left:
            raise TrialEnded("preempted", str(left)) from left
        except MtlsearchError as error:
            self._wait(pending)
            return {FAILED: str(error), "done": True}
        except Exception as error:
            fault = self._fault(error, pending)
            if fault.kind == "error" and not self._others and isinstance(error, RuntimeError):
                return {FAILED: fault.reason, TRACEBACK: traceback.format_exc(), "done": True}
            raise TrialEnded(fault.kind, fault.reason) from error
        assert report is not None, "rank 0 is the main one"
        return {REPORT: json_of(report)}

    def cleanup(self) -> None:
        """Frees the other ranks."""
        for other in self._others:
            ray.kill(other)

    def _begin(self, config: dict[str, Any]) -> None:
        self._order, self._scores_test = TrialOrder.model_validate_json(config[ORDER]), config[TEST]
        self._start = TrialStart.model_validate_json(config[START])
        if self._scores_test:
            return
        begun = [other.begin.remote(config[ORDER], config[START]) for other in self._others]
        ray.get(begun, timeout=self._setting.resources.timeout)
        self._rank.begin(self._order, self._start)

    def _meet(self, config: dict[str, Any]) -> Rank:
        resources, size = self._setting.resources, _workers(config)
        address = f"tcp://{ray.util.get_node_ip_address()}:{_free_port()}"
        actor = ray.remote(OtherRank).options(
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker,
            scheduling_strategy=PlacementGroupSchedulingStrategy(get_current_placement_group()),
        )
        self._others = [actor.remote(config[SETTING], rank, size, address) for rank in range(1, size)]
        return self._setting.start_rank(0, size, address)

    def _wait(self, pending: list[Any]) -> None:
        """Lets the other ranks come to the same end: the losses that every rank sees decide it."""
        _, late = ray.wait(pending, num_returns=len(pending), timeout=self._setting.resources.timeout)
        if late:
            raise TrialEnded("hung", f"{len(late)} ranks did not come to the end of a failed trial")

    def _fault(self, error: Exception, pending: list[Any]) -> Fault:
        """Why an epoch failed. A collective fails on every rank when one is gone; the gone one has the reason."""
        fault = _ended(error).fault
        if not pending or fault.kind not in ("error", "hung", "process_lost"):
            return fault
        ready, _ = ray.wait(pending, num_returns=len(pending), timeout=PEERS_SECONDS)
        for other, answer in zip(self._others, pending, strict=True):
            if answer in ready and (found := _end_of(other, answer)) is not None and found.kind != "error":
                return found
        return Fault("process_lost", fault.reason)


def _end_of(rank: Any, answer: Any) -> Fault | None:
    """Why a rank did not answer; None when it did. That its node is gone, Ray tells a while after it cannot be reached:
    it is asked again until then."""
    deadline = time.monotonic() + PEERS_SECONDS
    while True:
        try:
            ray.get(answer, timeout=PEERS_SECONDS)
        except ActorUnavailableError as error:
            if time.monotonic() > deadline:
                return fault_of(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what is asked for
            return fault_of(error)
        else:
            return None
        time.sleep(1)
        answer = rank.__ray_ready__.remote()


def _ended(error: Exception) -> TrialEnded:
    """The error in a form that crosses processes."""
    if isinstance(error, TrialEnded):
        return error
    fault = fault_of(error)
    return TrialEnded(fault.kind, fault.reason)


def bundle(resources: ResourcesConfig) -> dict[str, float]:
    """What Ray is asked for, for one rank."""
    gpus = {"GPU": resources.gpus_per_worker} if resources.gpus_per_worker > 0 else {}
    return {"CPU": float(resources.cpus_per_worker)} | gpus


def _workers(config: dict[str, Any]) -> int:
    return TrialStart.model_validate_json(config[START]).workers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])

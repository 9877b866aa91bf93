"""A trial as Ray Tune sees it: rank 0, with its other ranks as actors in the same placement group.

The process group is made once, when Tune starts the actor, and kept for the trials that Tune hands to it after
that (`reuse_actors`): importing torch and meeting over TCP costs seconds, a new model milliseconds.
The driver imports this module too, so torch is imported where a rank starts.
"""

from __future__ import annotations

import json
import socket
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from pydantic import TypeAdapter
from ray import tune
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.errors import MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialOrder

if TYPE_CHECKING:
    from mtlsearch.orchestrate.rank import Rank

ORDER, SETTING, TEST = "order", "setting", "test"
METRICS, FAILED = "metrics", "failed"


class Setting:
    """What all trials of an experiment share, as JSON, so that it crosses processes without pickling our types."""

    def __init__(self, data: DataConfig, folder: Path, resources: ResourcesConfig) -> None:
        self.data, self.folder, self.resources = data, folder, resources

    def json(self) -> str:
        """For `from_json`."""
        data, resources = self.data.model_dump(mode="json"), self.resources.model_dump(mode="json")
        return json.dumps({"data": data, "folder": str(self.folder), "resources": resources})

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """What `json` wrote."""
        fields = json.loads(text)
        data: DataConfig = TypeAdapter(DataConfig).validate_json(json.dumps(fields["data"]))
        resources = ResourcesConfig.model_validate_json(json.dumps(fields["resources"]))
        return cls(data, Path(fields["folder"]), resources)

    def start_rank(self, rank: int = 0, address: str | None = None) -> Rank:
        """A rank in this process; one of several meets the others at `address`."""
        from mtlsearch.orchestrate.rank import Rank

        return Rank(self.data, self.folder, self.resources, rank=rank, address=address)


class OtherRank:
    """Rank 1, 2, … of a trial: an actor that lives and dies with rank 0, its owner."""

    def __init__(self, setting: str, rank: int, address: str) -> None:
        self._rank = Setting.from_json(setting).start_rank(rank, address)

    def begin(self, order: str) -> None:
        """The next `step` trains this trial."""
        self._rank.begin(TrialOrder.model_validate_json(order))

    def step(self) -> None:
        """This rank's part of an epoch."""
        self._rank.step()


class Trial(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Rank 0. An iteration is an epoch; the driver decides when to stop."""

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the ranks and their process group."""
        self._setting = Setting.from_json(config[SETTING])
        self._others: list[Any] = []
        alone = self._setting.resources.workers_per_trial == 1
        self._rank = self._setting.start_rank() if alone else self._meet(config[SETTING])
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes the next trial; the ranks and the data stay."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch on all ranks. A trial that cannot go on says why and is done; a lost rank is Tune's to retry."""
        if self._scores_test:
            return {TEST: json.dumps(self._rank.score_test(self._order)), "done": True}
        pending = [other.step.remote() for other in self._others]
        try:
            metrics = self._rank.step()
            ray.get(pending, timeout=self._setting.resources.timeout)
        except MtlsearchError as error:
            self._wait(pending)
            return {FAILED: str(error), "done": True}
        except RuntimeError as error:
            if self._others:  # a peer that is gone shows as a RuntimeError of the collective
                raise
            self._folder.error.write_text(traceback.format_exc())
            return {FAILED: f"{type(error).__name__}: {error}", "done": True}
        assert metrics is not None, "rank 0 is the main one"
        return {METRICS: metrics.model_dump_json()}

    def cleanup(self) -> None:
        """Frees the other ranks."""
        for other in self._others:
            ray.kill(other)

    def _begin(self, config: dict[str, Any]) -> None:
        self._order, self._scores_test = TrialOrder.model_validate_json(config[ORDER]), config[TEST]
        self._folder = ExperimentFolder(self._setting.folder).trial(self._order.number)
        begun = [other.begin.remote(config[ORDER]) for other in self._others if not self._scores_test]
        ray.get(begun, timeout=self._setting.resources.timeout)
        self._rank.begin(self._order)

    def _meet(self, setting: str) -> Rank:
        resources = self._setting.resources
        address = f"tcp://{ray.util.get_node_ip_address()}:{_free_port()}"
        actor = ray.remote(OtherRank).options(
            num_cpus=resources.cpus_per_worker,
            num_gpus=resources.gpus_per_worker,
            scheduling_strategy=PlacementGroupSchedulingStrategy(get_current_placement_group()),
        )
        self._others = [actor.remote(setting, rank, address) for rank in range(1, resources.workers_per_trial)]
        return self._setting.start_rank(0, address)

    def _wait(self, pending: list[Any]) -> None:
        """Lets the other ranks come to the same end: the losses that every rank sees decide it."""
        _, late = ray.wait(pending, num_returns=len(pending), timeout=self._setting.resources.timeout)
        if late:
            raise RuntimeError(f"{len(late)} ranks did not come to the end of a failed trial")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])

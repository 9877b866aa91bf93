"""One rank of a trial, kept from trial to trial: its process group, its data, its generator of epochs."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.data import open_store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import EpochMetrics, Scores, TrialOrder
from mtlsearch.train import TensorData, World, fit, score_test


class Rank:
    """Runs one trial after another. Data is loaded once; everything else is made anew for each trial.

    Args:
        data: the data set.
        experiment: the experiment's folder.
        resources: what each rank of a trial has.
        rank: which of the trial's ranks this is.
        address: where rank 0 listens, `tcp://host:port`; None for a trial of one rank, without a process group.
    """

    def __init__(
        self,
        data: DataConfig,
        experiment: Path,
        resources: ResourcesConfig,
        *,
        rank: int = 0,
        address: str | None = None,
    ) -> None:
        torch.set_num_threads(resources.cpus_per_worker)  # more would take the CPUs of other trials
        device = torch.device("cuda", 0) if resources.gpus_per_worker > 0 else torch.device("cpu")
        if address is None:
            self._world = World(device=device)
        else:
            self._world = World.join(rank, resources.workers_per_trial, address, device, resources.timeout)
        self._folder = ExperimentFolder(experiment)
        gpu_share = min(1.0, resources.gpus_per_worker)
        self._data = TensorData.load(open_store(data), device, resources.feed, gpu_share=gpu_share)
        self._epochs: Generator[EpochMetrics | None, None, None] | None = None

    def begin(self, order: TrialOrder) -> None:
        """The next `step` trains this trial's next epoch."""
        self.close()
        self._epochs = fit(order, self._data.only(order.tasks), self._folder.trial(order.number), self._world)

    def close(self) -> None:
        """Lets go of the trial."""
        if self._epochs is not None:
            self._epochs.close()

    def step(self) -> EpochMetrics | None:
        """Trains one epoch; its metrics on rank 0, None on the others.

        Raises:
            TrialFailed: the trial cannot go on.
        """
        assert self._epochs is not None, "no trial was begun"
        return next(self._epochs)

    def score_test(self, order: TrialOrder) -> Scores:
        """The test scores of a finished trial."""
        alone = World(device=self._world.device)  # the other ranks have no part in it
        return score_test(order, self._data.only(order.tasks), self._folder.trial(order.number), alone)

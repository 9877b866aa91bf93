"""One rank of a trial, kept from trial to trial: its process group, its data, its generator of epochs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace

import torch

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.data import open_store
from mtlsearch.folder.files import Files
from mtlsearch.records import EpochReport, Scores, TrialOrder, TrialStart
from mtlsearch.train import Checkpoints, TensorData, Watch, World, fit, score_test
from mtlsearch.train.memory import limit_to_share


class Rank:
    """Runs one trial after another. Data is loaded once; everything else is made anew for each trial.

    Args:
        data: the data set.
        resources: what each rank of a trial has.
        checkpoints: trial number → where its checkpoints are.
        rank: which of the trial's ranks this is.
        size: how many there are.
        address: where rank 0 listens, `tcp://host:port`; None for a trial of one rank, without a process group.
    """

    def __init__(
        self,
        data: DataConfig,
        resources: ResourcesConfig,
        checkpoints: Callable[[int], Files],
        *,
        rank: int = 0,
        size: int = 1,
        address: str | None = None,
    ) -> None:
        torch.set_num_threads(resources.cpus_per_worker)  # more would take the CPUs of other trials
        device = torch.device("cuda", 0) if resources.gpus_per_worker > 0 else torch.device("cpu")
        if resources.shares_gpus:
            limit_to_share(device, resources.gpus_per_worker)
        if address is None:
            world = World(device=device)
        else:
            shares_gpu = resources.shares_gpus
            world = World.join(rank, size, address, device, resources.timeout, shares_gpu=shares_gpu)
        self._world = replace(world, most=resources.most_workers)
        self._checkpoints = checkpoints
        self.watch = Watch()
        gpu_share = min(1.0, resources.gpus_per_worker)
        self._data = TensorData.load(open_store(data), device, resources.feed, gpu_share=gpu_share)
        self._epochs: Generator[EpochReport | None, None, None] | None = None

    def begin(self, order: TrialOrder, start: TrialStart) -> None:
        """The next `step` trains this trial's next epoch, or tells once more of the last one."""
        self.close()
        self.watch.begin(order.number, start.generation)
        world, checkpoints = replace(self._world, chunks=start.chunks), None
        if world.is_main:
            checkpoints = Checkpoints(self._checkpoints(order.number), start.generation)
        self._epochs = fit(order, self._data.only(order.tasks), checkpoints, world, self.watch)

    def close(self) -> None:
        """Lets go of the trial."""
        if self._epochs is not None:
            self._epochs.close()

    def step(self) -> EpochReport | None:
        """Trains one epoch; its report on rank 0, None on the others.

        Raises:
            TrialFailed: the trial cannot go on.
        """
        assert self._epochs is not None, "no trial was begun"
        self.watch.works(True)
        try:
            return next(self._epochs)
        finally:
            self.watch.works(False)

    def score_test(self, order: TrialOrder, chunks: int = 1) -> Scores:
        """The test scores of a finished trial."""
        alone = World(device=self._world.device, chunks=chunks)  # the other ranks have no part in it
        checkpoints = Checkpoints(self._checkpoints(order.number))
        return score_test(order, self._data.only(order.tasks), checkpoints, alone)

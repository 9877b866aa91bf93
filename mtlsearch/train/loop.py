"""The epochs of one trial."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from itertools import compress
from typing import Any

import torch

from mtlsearch import objective
from mtlsearch.balancing import build_balancer
from mtlsearch.errors import TrialFailed, TrialLeft
from mtlsearch.models import Epoch, begin_epoch, build_model
from mtlsearch.records import EpochMetrics, EpochReport, Scores, TrialOrder, derive_seed, json_of
from mtlsearch.train.batch import Batch
from mtlsearch.train.checkpoint import Checkpoint, Checkpoints, decode
from mtlsearch.train.diagnostics import Diagnostics
from mtlsearch.train.distributed import World
from mtlsearch.train.evaluate import evaluate
from mtlsearch.train.losses import BatchLosses, LossTable
from mtlsearch.train.optimizer import build_optimizer, learning_rate, set_learning_rate
from mtlsearch.train.sampling import build_sampling
from mtlsearch.train.step import EpochMeans, Means, StepResult, train_step
from mtlsearch.train.tensors import TensorData
from mtlsearch.train.watch import Watch

CHECKPOINT_STEPS = 500
"""Steps of an epoch after which a checkpoint is written in its middle. Not seconds: all ranks come to it together."""

LEAVE_STEPS = 16
"""Several ranks ask each other whether they are to leave after an epoch's first step, and then so often; one alone asks
itself at every step."""

EXPLODED = 1e6
"""A mean training loss above this has exploded: labels are standardised, so 1 is what a constant reaches."""


def fit(
    order: TrialOrder, data: TensorData, checkpoints: Checkpoints | None, world: World, watch: Watch | None = None
) -> Generator[EpochReport | None, None, None]:
    """Trains epoch by epoch, from the trial's last checkpoint if it has one, whose epoch is then reported again.

    Every rank of the trial pulls its own `fit`; rank 0 writes checkpoints and yields reports, the others yield None.

    Args:
        order: what to train.
        data: the order's tasks.
        checkpoints: rank 0's; None on the others, which hear of them from rank 0.
        world: this rank.
        watch: is told how far this is, and can make it leave.
    Raises:
        TrialLeft: the watch wished so; a checkpoint of this very step is there.
        TrialFailed: the loss is not finite or exploded, or a score that the objective needs is undefined.
        ConfigError: the model cannot serve the tasks.
        OSError: a checkpoint cannot be written.
    """
    trial = _Trial(order, data, checkpoints, world, watch or Watch())
    if trial.last_report is not None:
        yield trial.last_report if world.is_main else None
    for epoch in range(trial.last_epoch + 1, order.epochs + 1):
        yield trial.train(epoch)


class _Trial:
    """One rank's model, optimiser and balancer."""

    def __init__(
        self, order: TrialOrder, data: TensorData, checkpoints: Checkpoints | None, world: World, watch: Watch
    ) -> None:
        self._watch = watch
        self._order, self._data, self._checkpoints, self._world = order, data, checkpoints, world
        config, self.last_epoch = order.config, 0
        self.last_report: EpochReport | None = None
        self._best_objective, self._best_epoch = float("-inf"), 0
        self._means = EpochMeans()
        self._model = build_model(config.model, data.input_spec, data.tasks, order.seed).to(world.device)
        self._balancer = build_balancer(config.balancing, data.tasks, order.seed)
        self._balancer.to(world.device)
        self._optimizer = build_optimizer(config.optimizer, self._model, self._balancer)
        self._sampling = build_sampling(config.sampling, data, order.seed, world, order.reference_losses)
        self._table = LossTable(data.tasks, world.device)
        self._take_up()
        self._wrapped = world.wrap(self._model)
        self._diagnostics = Diagnostics(self._model, data, world)

    def train(self, epoch: int) -> EpochReport | None:
        """One epoch, measured and kept."""
        lr = learning_rate(self._order.config.optimizer, epoch, self._order.epochs)
        start = time.perf_counter()
        self._train_steps(epoch, lr)
        trained = time.perf_counter()
        loss_K, served_K, weights_K, grad_norm, penalties = self._over_ranks()
        self._check(loss_K, epoch)
        self._means = EpochMeans()
        sampling = self._sampling.metrics()
        scores = evaluate(self._model, self._data, "validation", self._world)
        score = self._scored(scores)
        if scores is None or score is None:
            return None
        names = [task.name for task in self._data.tasks]
        mixture, record = self._diagnostics.after(epoch)
        metrics = EpochMetrics(
            epoch=epoch,
            objective=score,
            validation=scores,
            train_loss=dict(compress(zip(names, loss_K.tolist(), strict=True), served_K.tolist())),
            task_weights=dict(zip(names, weights_K.tolist(), strict=True)),
            learning_rate=lr,
            grad_norm=float(grad_norm),
            seconds=time.perf_counter() - start,
            samples_per_second=self._data.num_rows("train") / (trained - start),
            penalties={name: float(value) for name, value in penalties.items()},
            mixture=mixture,
            sampling=sampling,
        )
        return self._keep(EpochReport(metrics=metrics, model=record))

    def _scored(self, scores: Scores | None) -> float | None:
        """The objective, on the rank that has the scores; the sampling hears of it on all ranks, or of none."""
        score = None
        try:
            if scores is not None:
                score = objective.score(self._order.metric, self._data.tasks, scores, self._order.reference)
        finally:
            self._sampling.after_epoch(score)
        return score

    def _train_steps(self, epoch: int, lr: float) -> None:
        """The epoch's steps, or those that are left of them."""
        config, seed = self._order.config, self._order.seed
        set_learning_rate(self._optimizer, lr)
        if self._means.num_steps == 0:
            self._balancer.begin_epoch(epoch)
            begin_epoch(self._model, Epoch(epoch, self._order.epochs, derive_seed(seed, "model", epoch)))
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        replication = self._model.target_replication
        self._model.train()
        done = self._means.num_steps
        with closing(self._sampling.epoch(epoch, generator, config.batch_size, replication, done)) as batches:
            for step, batch in enumerate(batches, done):
                self._world.seed_draws(derive_seed(seed, "dropout", epoch, step, self._world.rank))
                result = self._train_step(batch)
                self._means.add(result)
                self._sampling.observe(result.balanced.losses)
                self._watch.at(epoch, step + 1)
                leaves = self._leaves(step + 1)
                if leaves or (step + 1) % CHECKPOINT_STEPS == 0:
                    self._means = self._means.over_ranks(self._world)
                    self._save(epoch - 1, self._means.state_dict())
                if leaves:
                    raise TrialLeft(f"{self._watch.leave or 'another rank left'}, at step {step + 1} of epoch {epoch}")

    def _leaves(self, steps: int) -> bool:
        """Whether to leave now; all ranks say so together."""
        wish = self._watch.leave is not None
        if self._world.size == 1:
            return wish
        if steps % LEAVE_STEPS != 1:
            return False
        return bool(self._world.sum(torch.tensor(float(wish), device=self._world.device)))

    def _train_step(self, batch: Batch) -> StepResult:
        config = self._order.config
        losses = BatchLosses(
            self._wrapped,
            batch,
            self._table,
            self._world,
            inner_fraction=self._balancer.inner_fraction,
            amp=config.amp == "bf16",
        )
        return train_step(losses, self._balancer, self._optimizer, config.optimizer.clip_norm)

    def _over_ranks(self) -> Means:
        """The epoch's means, which every rank comes to alike."""
        self._means = self._means.over_ranks(self._world)
        return self._means.means()

    def _check(self, loss_K: torch.Tensor, epoch: int) -> None:
        """Every rank sees the same losses, so all of them stop here, or none."""
        bad = [not loss < EXPLODED for loss in loss_K.tolist()]  # also when it is NaN
        if not any(bad):
            return
        # Where one task's loss is not finite, a step later none is: the one to name is the first.
        first_K = self._means.first_bad()
        first = min(range(len(bad)), key=lambda task: (not bad[task], float(first_K[task])))
        step = f", first at step {int(first_K[first])}" if first_K[first] <= self._means.num_steps else ""
        name = self._data.tasks[first].name
        raise TrialFailed(f"the training loss of {name} is {float(loss_K[first]):.3g} in epoch {epoch}{step}")

    def _keep(self, report: EpochReport) -> EpochReport:
        metrics = report.metrics
        if metrics.objective > self._best_objective:
            self._best_objective, self._best_epoch = metrics.objective, metrics.epoch
        self.last_report = report
        self._save(metrics.epoch)
        return report

    def _save(self, epoch: int, under_way: dict[str, Any] | None = None) -> None:
        if self._checkpoints is None:
            return
        self._checkpoints.save(
            Checkpoint(
                epoch=epoch,
                model=self._model.state_dict(),
                optimizer=self._optimizer.state_dict(),
                balancer=self._balancer.state_dict(),
                best_objective=self._best_objective,
                best_epoch=self._best_epoch,
                sampling=self._sampling.state_dict(),
                measured=json_of(self.last_report) if self.last_report is not None else "",
                under_way=under_way,
            )
        )

    def _take_up(self) -> None:
        newest = self._checkpoints.take_over() if self._checkpoints is not None else None
        content = self._world.tell(newest)
        if content is None:
            return
        state = decode(content, self._world.device)
        self.last_epoch = state.epoch
        self._best_objective, self._best_epoch = state.best_objective, state.best_epoch
        self._model.load_state_dict(state.model)
        self._optimizer.load_state_dict(state.optimizer)
        self._balancer.load_state_dict(state.balancer)
        self._sampling.load_state_dict(state.sampling)
        if state.measured:
            self.last_report = EpochReport.model_validate_json(state.measured)
        if state.under_way is not None:
            self._means = EpochMeans.of(state.under_way)

"""A trial's epochs: they learn, repeat to the last bit, and go on from a checkpoint as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest_train import (
    CPU,
    SEQUENCE_TASKS,
    TASKS,
    best_state,
    last_state,
    learnable_sequences,
    measured,
    order,
    places,
    same_weights,
    schema,
    table_splits,
    trained,
)
from torch.optim import Optimizer
from toy_models import ARCHITECTURES, TABLE, small, tasks

from mtlsearch.balancing import BalancedStep, Balancer, Losses, build_balancer
from mtlsearch.config import Architecture, CrossStitchConfig, ManMoeConfig, PerceiverIoConfig, SgdConfig, UniformConfig
from mtlsearch.errors import ConfigError, TrialFailed
from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.folder.files import FolderFiles
from mtlsearch.models import Epoch, MultiTaskModel, build_model
from mtlsearch.records import EpochMetrics, ModelRecord
from mtlsearch.train import Checkpoints, TensorData, World, fit, loop
from mtlsearch.train.checkpoint import Checkpoint, Place
from mtlsearch.train.losses import BatchLosses
from mtlsearch.train.optimizer import build_optimizer, learning_rate, set_learning_rate
from mtlsearch.train.step import EpochMeans, StepResult, train_step

MAML = {"kind": "maml_mtl", "inner_lr": 0.01}
DROPOUT = {"kind": "mmoeex", "hidden": 16, "dropout": 0.2, "num_experts": 4}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if not kind.needs_steps])
def test_every_architecture_learns(data: TensorData, folder: TrialFolder, kind: type[Architecture]) -> None:
    model = small(kind, hidden=16, tower_hidden=32, num_latents=8, num_tokens=8).model_dump()
    slow = kind is PerceiverIoConfig
    optimizer = {"kind": "adamw", "lr": 0.005 if slow else 0.01}
    metrics = trained(order(epochs=40 if slow else 12, model=model, optimizer=optimizer), data, folder)
    assert all(metrics[-1].train_loss[task] < metrics[0].train_loss[task] for task in ("late", "delay", "gone"))
    scores = metrics[-1].validation
    assert scores["late"]["auroc"] > 0.9  # type: ignore[operator]
    assert scores["delay"]["r2"] > 0.8  # type: ignore[operator]
    blind = kind is ManMoeConfig  # to the column that the label depends on: it is the domain
    assert scores["gone"]["auroc"] > (0.8 if blind else 0.9)  # type: ignore[operator]


def test_scores_are_in_original_units(data: TensorData, folder: TrialFolder) -> None:
    """Labels have a deviation of 15 minutes, so an RMSE of a good model is a few minutes."""
    scores = trained(order(epochs=12, optimizer={"kind": "adamw", "lr": 0.01}), data, folder)[-1].validation["delay"]
    assert 1.5 < scores["rmse"] < 8  # type: ignore[operator]
    assert scores["mae"] < scores["rmse"]  # type: ignore[operator]


@pytest.mark.parametrize("balancing", [{"kind": "uniform"}, MAML])
def test_the_same_order_gives_the_same_numbers_whatever_ran_before(
    data: TensorData, tmp_path: Path, balancing: dict[str, Any]
) -> None:
    trial, results = order(model=DROPOUT, balancing=balancing), []
    for name, noise in [("one", 1), ("two", 2)]:
        torch.manual_seed(noise)  # an earlier trial in this process left the global generator somewhere
        results.append(measured(trained(trial, data, ExperimentFolder(tmp_path / name).trial(3))))
    assert results[0] == results[1]


@pytest.mark.parametrize("balancing", [{"kind": "uniform"}, MAML, MAML | {"order": 2}])
@pytest.mark.parametrize("optimizer", [{"kind": "adamw"}, {"kind": "adam"}, {"kind": "sgd", "schedule": "cosine"}])
def test_a_trial_goes_on_from_its_checkpoint_to_the_last_bit(
    data: TensorData, tmp_path: Path, balancing: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    trial = order(epochs=4, model=DROPOUT, balancing=balancing, optimizer=optimizer)
    undisturbed, disturbed = (ExperimentFolder(tmp_path / name).trial(3) for name in ("undisturbed", "disturbed"))
    expected = measured(trained(trial, data, undisturbed))
    first = measured(trained(trial, data, disturbed, epochs=2))
    assert first + measured(trained(trial, data, disturbed)) == expected
    assert measured(disturbed.epochs()) == expected
    assert same_weights(last_state(undisturbed), last_state(disturbed))


def test_a_trial_that_is_taken_up_tells_of_its_last_epoch_first(
    data: TensorData, folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver may not have heard of it. It is told from the checkpoint, the clock too, and not trained for that."""
    trial = order(epochs=4)
    trained(trial, data, folder, epochs=2)
    begun: list[int] = []
    monkeypatch.setattr(loop, "begin_epoch", lambda model, epoch: begun.append(epoch.number))
    first, *rest = fit(trial, data, Checkpoints(folder.checkpoints, 2), World())
    assert first is not None
    assert first.metrics == folder.epochs()[-1]
    assert first.model == ModelRecord.model_validate_json(folder.model.read_text())
    assert [each.metrics.epoch for each in rest if each is not None] == begun == [3, 4]


def test_a_trial_that_was_at_its_end_tells_of_it_and_trains_nothing(data: TensorData, folder: TrialFolder) -> None:
    """The driver was killed before it could say that the trial is complete."""
    trial = order(epochs=2)
    trained(trial, data, folder)
    (report,) = fit(trial, data, Checkpoints(folder.checkpoints, 2), World())
    assert report is not None
    assert report.metrics == folder.epochs()[-1]


class KilledError(Exception):
    """Stands for kill -9: nothing is cleaned up or written."""


def kill(patch: pytest.MonkeyPatch, moment: str, epoch: int) -> None:
    """Has the trial killed at a moment of an epoch; what is half written stays as a killed process leaves it."""
    save, append, write = Checkpoints.save, TrialFolder.append, FolderFiles.write

    def saved(checkpoints: Checkpoints, state: Checkpoint) -> None:
        if (moment, epoch) == ("before its checkpoint", state.epoch):
            raise KilledError
        save(checkpoints, state)

    def written(files: FolderFiles, name: str, content: bytes | memoryview) -> None:
        place = Place.parse(name)
        if place is not None and (moment, epoch) == ("in its checkpoint", place.epoch):
            files.path.mkdir(parents=True, exist_ok=True)
            (files.path / f".{name}.123").write_bytes(content[:999])
            raise KilledError
        write(files, name, content)

    def appended(folder: TrialFolder, metrics: EpochMetrics) -> None:
        if metrics.epoch == epoch and moment == "before its line":
            raise KilledError
        append(folder, metrics)
        if metrics.epoch == epoch and moment == "in its line":
            folder.metrics.write_bytes(folder.metrics.read_bytes()[:-20])
        if metrics.epoch == epoch and moment in ("in its line", "after its line"):
            raise KilledError

    patch.setattr(Checkpoints, "save", saved)
    patch.setattr(FolderFiles, "write", written)
    patch.setattr(TrialFolder, "append", appended)


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize(
    ("moment", "is_kept"),
    [
        ("before its checkpoint", False),
        ("in its checkpoint", False),
        ("before its line", True),
        ("in its line", True),
        ("after its line", True),
    ],
)
def test_killed_at_any_moment_no_epoch_is_lost_doubled_or_trained_in_vain(
    data: TensorData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, is_kept: bool, epoch: int
) -> None:
    trial = order(epochs=4, model=DROPOUT)
    undisturbed, disturbed = (ExperimentFolder(tmp_path / name).trial(3) for name in ("undisturbed", "disturbed"))
    expected = measured(trained(trial, data, undisturbed))
    with monkeypatch.context() as patch:
        kill(patch, moment, epoch)
        with pytest.raises(KilledError):
            trained(trial, data, disturbed)
    begun: list[int] = []
    begin_epoch = loop.begin_epoch
    monkeypatch.setattr(loop, "begin_epoch", lambda model, at: begun.append(at.number) or begin_epoch(model, at))
    trained(trial, data, disturbed)
    assert begun == list(range(epoch + is_kept, 5))
    assert measured(disturbed.epochs()) == expected
    assert disturbed.model.read_text() == undisturbed.model.read_text()
    assert same_weights(last_state(disturbed), last_state(undisturbed))
    assert same_weights(best_state(disturbed), best_state(undisturbed))


def test_killed_again_and_again_it_is_still_the_undisturbed_trial(
    data: TensorData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time by another start of the trial, with a generation of its own."""
    trial = order(epochs=4)
    undisturbed, disturbed = (ExperimentFolder(tmp_path / name).trial(3) for name in ("undisturbed", "disturbed"))
    expected = measured(trained(trial, data, undisturbed))
    kills = [("in its line", 1), ("before its checkpoint", 2), ("in its checkpoint", 2), ("before its line", 4)]
    for moment, epoch in kills:
        with monkeypatch.context() as patch:
            kill(patch, moment, epoch)
            with pytest.raises(KilledError):
                trained(trial, data, disturbed)
    trained(trial, data, disturbed)
    assert measured(disturbed.epochs()) == expected
    assert {place.generation for place in places(disturbed)} == {5}


def test_whoever_pulls_may_stop_pulling(data: TensorData, folder: TrialFolder) -> None:
    trained(order(epochs=5), data, folder, epochs=2)
    assert [each.epoch for each in folder.epochs()] == [1, 2]


def test_sequences_are_learnt(folder: TrialFolder) -> None:
    """Whether a patient is sick at a step follows that step's first number."""
    trial = order(epochs=10, tasks=SEQUENCE_TASKS, optimizer={"kind": "adamw", "lr": 0.01}, model=DROPOUT)
    metrics = trained(trial, learnable_sequences(), folder)
    assert metrics[-1].validation["sick"]["auroc"] > 0.9  # type: ignore[operator]
    assert metrics[-1].validation["died"]["auroc"] > 0.8  # type: ignore[operator]
    assert metrics[-1].validation["stay"]["rmse"] < 15  # type: ignore[operator]
    assert all(metrics[-1].train_loss[task.name] < metrics[0].train_loss[task.name] for task in SEQUENCE_TASKS)


def test_a_models_own_regularisers_are_recorded_by_name(data: TensorData, tmp_path: Path) -> None:
    model = {"kind": "soft_sharing", "hidden": 16, "strength": 1e-2}
    weak, strong = (
        trained(
            order(epochs=6, optimizer={"kind": "adamw", "lr": 0.02}, model=model | {"strength": strength}),
            data,
            ExperimentFolder(tmp_path / name).trial(3),
        )
        for name, strength in (("weak", 1e-9), ("strong", 1.0))
    )
    assert set(weak[-1].penalties) == {"soft_sharing"}
    distance = [metrics[-1].penalties["soft_sharing"] / strength for metrics, strength in ((weak, 1e-9), (strong, 1.0))]
    assert 0 < distance[1] < 0.2 * distance[0]


def test_a_regulariser_that_a_model_was_given_is_in_the_loss_beside_its_own(
    data: TensorData, folder: TrialFolder
) -> None:
    model = {"kind": "soft_sharing", "hidden": 8, "regularizer": {"kind": "deep_relation"}}
    (metrics,) = trained(order(epochs=1, model=model), data, folder)
    assert set(metrics.penalties) == {"soft_sharing", "deep_relation"}
    assert all(penalty > 0 for penalty in metrics.penalties.values())


def test_an_epoch_says_where_training_stands_and_sets_the_rates_before_its_first_step(
    data: TensorData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alike on all ranks, each time with a seed of its own; dropout's seed is another on each rank too."""
    told: list[Any] = []
    dropout: list[int] = []

    def step(losses: BatchLosses, balancer: Balancer, optimizer: Optimizer, clip_norm: float | None) -> StepResult:
        told.append({round(group["lr"], 6) for group in optimizer.param_groups})
        dropout.append(torch.initial_seed())
        return train_step(losses, balancer, optimizer, clip_norm)

    monkeypatch.setattr(loop, "begin_epoch", lambda model, epoch: told.append(epoch))
    monkeypatch.setattr(loop, "train_step", step)
    model = {"kind": "cross_stitch", "hidden": 8, "lr_factor": 5.0}
    trial = order(epochs=2, batch_size=512, model=model, optimizer={"kind": "sgd", "lr": 0.01, "schedule": "cosine"})
    trained(trial, data, ExperimentFolder(tmp_path / "first").trial(3))
    first, second = told[0], told[2]
    assert told == [Epoch(1, 2, first.seed), {0.01, 0.05}, Epoch(2, 2, second.seed), {0.005, 0.025}]
    assert first.seed != second.seed
    told.clear()
    monkeypatch.setattr(loop, "evaluate", lambda *_: None)  # as ranks but the first get it
    list(fit(trial, data, None, World(rank=1)))
    assert told[::2] == [first, second]
    assert len(set(dropout)) == 4


def test_steps_are_taken_in_training_mode(
    data: TensorData, folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    penalised = MultiTaskModel.penalised
    monkeypatch.setattr(MultiTaskModel, "penalised", lambda self, x: modes.append(self.training) or penalised(self, x))
    trained(order(epochs=2), data, folder)
    assert modes
    assert all(modes)


def test_an_epochs_numbers_are_means_over_its_steps() -> None:
    means = EpochMeans()
    for number in (1.0, 2.0, 6.0):
        present_K = torch.tensor([True, number != 2])
        loss_K = torch.tensor([number, 2 * number]) * present_K
        losses = Losses(loss_K, {"price": torch.tensor(10 * number)}, present_K)
        means.add(StepResult(BalancedStep(losses, torch.tensor([1.0, number])), torch.tensor(5 * number)))
    loss_K, served_K, weights_K, grad_norm, penalties = means.means()
    assert loss_K.tolist() == [3.0, 7.0]  # the second task had no label in the second step
    assert served_K.all()
    assert weights_K.tolist() == [1.0, 3.0]
    assert grad_norm == 15
    assert penalties == {"price": 30}


@pytest.mark.parametrize("sampling", ["joint", "uniform"])
def test_a_task_that_no_batch_serves_has_no_training_loss(folder: TrialFolder, sampling: str) -> None:
    """It is left out of the record: 0 would look perfect. Where nothing was learned, nothing has gone wrong either."""
    splits = table_splits()
    labels = splits["train"].labels_NL.copy()
    labels[:, 2] = np.nan
    splits["train"] = replace(splits["train"], labels_NL=labels)
    trial = order(epochs=2, sampling={"kind": sampling})
    for metrics in trained(trial, TensorData.of(schema(TASKS), splits, CPU), folder):
        assert set(metrics.train_loss) == {"late", "delay"}
        assert set(metrics.validation) == {"late", "delay", "gone"}


def test_attention_has_the_second_gradients_that_second_order_needs(folder: TrialFolder) -> None:
    """The fused kernels have none."""
    model = {"kind": "shared_bottom", "hidden": 8, "expert": {"kind": "transformer"}}
    trial = order(epochs=1, tasks=SEQUENCE_TASKS, model=model, balancing=MAML | {"order": 2})
    (metrics,) = trained(trial, learnable_sequences({"train": 64, "validation": 64, "test": 64}), folder)
    assert all(loss > 0 for loss in metrics.train_loss.values())


def test_a_model_may_ask_for_replicated_targets(tmp_path: Path) -> None:
    """Then what is learnt from is another loss, that of steps alone excepted."""
    losses = []
    for share in (0.0, 0.5):
        model = {"kind": "mcw_lstm", "channel_size": 2, "size_coef": 2, "target_replication": share}
        trial = order(1, SEQUENCE_TASKS, model=model, batch_size=512, optimizer={"kind": "sgd", "lr": 1e-6})
        losses.append(
            trained(trial, learnable_sequences(), ExperimentFolder(tmp_path / str(share)).trial(3))[0].train_loss
        )
    once, replicated = losses
    assert replicated["sick"] == pytest.approx(once["sick"], rel=1e-4)
    assert all(abs(replicated[name] - once[name]) > 1e-4 for name in ("died", "stay", "group"))


def test_a_parameter_may_learn_at_a_multiple_of_the_rate() -> None:
    model = build_model(CrossStitchConfig(hidden=8, lr_factor=5.0), TABLE, tasks(1, 1), seed=0)
    optimizer = build_optimizer(SgdConfig(lr=0.1, momentum=0.0), model, build_balancer(UniformConfig(), model.tasks, 0))
    set_learning_rate(optimizer, 0.01)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[parameter] == pytest.approx(0.05 if name in model.lr_factors else 0.01), name
    assert 0.05 in {round(rate, 9) for rate in rates.values()}


def test_a_baseline_learns_its_task_alone(data: TensorData, folder: TrialFolder) -> None:
    trial = order(model={"kind": "single_task", "hidden": 16}).model_copy(
        update={"tasks": ("delay",), "metric": "delay/rmse", "role": "baseline"}
    )
    metrics = trained(trial, data.only(trial.tasks), folder)
    assert set(metrics[0].validation) == {"delay"}
    assert metrics[-1].objective == -metrics[-1].validation["delay"]["rmse"]  # type: ignore[operator]


def test_a_loss_that_explodes_fails_the_trial_with_its_task_and_epoch(data: TensorData, folder: TrialFolder) -> None:
    trial = order(optimizer={"kind": "sgd", "lr": 10.0})
    with pytest.raises(TrialFailed, match=r"the training loss of \w+ is .* in epoch \d"):
        trained(trial, data, folder)


def test_a_task_without_any_validation_label_is_undefined_and_fails_the_mean(folder: TrialFolder) -> None:
    splits = table_splits()
    splits["validation"].labels_NL[:, 0] = np.nan
    data = TensorData.of(schema(TASKS), splits, CPU)
    with pytest.raises(TrialFailed, match="auroc of task 'late' is undefined on validation"):
        trained(order(), data, folder)


def test_a_model_that_cannot_serve_the_tasks_is_refused(data: TensorData, folder: TrialFolder) -> None:
    trial = order(model={"kind": "mmoeex", "num_experts": 2, "alpha": 1.0})
    with pytest.raises(ConfigError, match="every task needs an open expert"):
        trained(trial, data, folder)


def test_bfloat16_learns_what_float32_learns(data: TensorData, tmp_path: Path) -> None:
    results = [
        trained(order(epochs=6, amp=amp), data, ExperimentFolder(tmp_path / amp).trial(3))[-1]
        for amp in ("off", "bf16")
    ]
    assert results[0].objective != results[1].objective
    assert results[0].objective == pytest.approx(results[1].objective, abs=0.05)


def test_gradients_are_clipped_to_the_norm(data: TensorData, tmp_path: Path) -> None:
    """With a norm of 1e-9 SGD does not move; the norm that is reported is that before clipping."""
    optimizer = {"kind": "sgd", "momentum": 0.0, "clip_norm": 1e-9}
    metrics = trained(order(epochs=2, optimizer=optimizer), data, ExperimentFolder(tmp_path).trial(3))
    assert metrics[0].validation == metrics[1].validation
    assert metrics[0].grad_norm > 0.01


def test_cosine_falls_from_the_learning_rate_towards_zero() -> None:
    config = order(optimizer={"kind": "adamw", "lr": 0.1, "schedule": "cosine"}).config.optimizer
    rates = [learning_rate(config, epoch, 4) for epoch in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.01464466])

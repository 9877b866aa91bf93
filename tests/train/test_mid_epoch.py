"""Killed in the middle of an epoch and taken up again, a trial goes on as if nothing had happened, to the last bit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest_train import (
    SEQUENCE_TASKS,
    TASKS,
    best_state,
    last_state,
    learnable,
    learnable_sequences,
    measured,
    order,
    same_weights,
    trained,
)
from torch import Tensor
from toy_balancing import BALANCING

from mtlsearch.config import SamplingConfig
from mtlsearch.errors import TrialFailed
from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.records import TrialOrder
from mtlsearch.train import TensorData, loop

STEPS = 32
"""Of an epoch: 512 rows in batches of 16."""
MODELS: dict[str, dict[str, Any]] = {
    "dropout": {"kind": "mmoeex", "hidden": 8, "dropout": 0.3, "expert_dropout": 0.1},
    "adashare": {"kind": "adashare", "hidden": 8, "num_blocks": 2, "warm_up": 0.0},
    "jmt": {"kind": "jmt", "hidden": 8},
    "deep_relation": {"kind": "shared_bottom", "hidden": 8, "regularizer": {"kind": "deep_relation"}},
}


class KilledError(Exception):
    """Stands for kill -9: nothing is cleaned up or written."""


def watched(
    monkeypatch: pytest.MonkeyPatch, trial: TrialOrder, data: TensorData, folder: TrialFolder, kill_after: int
) -> list[Tensor]:
    """Trains until so many steps were taken; each step's losses."""
    seen: list[Tensor] = []
    step = loop.train_step

    def counting(*arguments: Any) -> Any:
        if len(seen) == kill_after:
            raise KilledError
        result = step(*arguments)
        seen.append(result.balanced.losses.loss_K)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", counting)
        patched.setattr(loop, "CHECKPOINT_STEPS", 5)
        with suppress(KilledError):
            trained(trial, data, folder)
    return seen


def check(monkeypatch: pytest.MonkeyPatch, path: Path, trial: TrialOrder, data: TensorData) -> None:
    """Killed 23 steps into the second of three epochs; the last checkpoint is of step 20."""
    whole, killed = ExperimentFolder(path / "whole").trial(3), ExperimentFolder(path / "killed").trial(3)
    expected = watched(monkeypatch, trial, data, whole, 10_000)
    steps = len(expected) // 3
    watched(monkeypatch, trial, data, killed, steps + 23)
    torch.rand(7)  # whatever the process drew in between
    again = watched(monkeypatch, trial, data, killed, 10_000)
    assert len(again) == len(expected) - steps - 20
    assert all(torch.equal(one, other) for one, other in zip(again, expected[steps + 20 :], strict=True))
    for state in (last_state, best_state):
        assert state(whole).epoch == state(killed).epoch
        assert same_weights(state(whole), state(killed))
    assert measured(killed.epochs()) == measured(whole.epochs())


@pytest.mark.slow
@pytest.mark.parametrize("balancing", BALANCING)
def test_every_method_goes_on_to_the_last_bit(monkeypatch, tmp_path, balancing) -> None:
    trial = order(epochs=3, balancing=balancing.model_dump(), batch_size=16, model={"kind": "mmoe", "hidden": 8})
    check(monkeypatch, tmp_path, trial, learnable())


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_that_draws_or_remembers_goes_on_to_the_last_bit(monkeypatch, tmp_path, model) -> None:
    trial = order(epochs=3, batch_size=16, model=MODELS[model], optimizer={"kind": "sgd", "schedule": "cosine"})
    check(monkeypatch, tmp_path, trial, learnable())


def test_sequences_go_on_to_the_last_bit(monkeypatch, tmp_path) -> None:
    model = {"kind": "mmoe", "hidden": 8, "expert": {"kind": "gru"}, "dropout": 0.2}
    trial = order(epochs=3, tasks=SEQUENCE_TASKS, batch_size=16, model=model)
    check(monkeypatch, tmp_path, trial, learnable_sequences())


def test_the_best_weights_are_never_those_of_the_middle_of_an_epoch(monkeypatch, tmp_path) -> None:
    folder = ExperimentFolder(tmp_path).trial(3)
    trial = order(epochs=3, batch_size=16)
    watched(monkeypatch, trial, learnable(), folder, STEPS + 12)
    last, best = last_state(folder), best_state(folder)
    assert last.epoch == best.epoch == 1
    assert last.under_way is not None
    assert best.under_way is None
    assert not same_weights(last, best)


def test_the_task_whose_loss_was_first_not_finite_is_named_with_its_step(monkeypatch, tmp_path) -> None:
    """A step later all of them are not."""
    step, calls = loop.train_step, []

    def poisoned(losses: Any, balancer: Any, *rest: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:
            losses._rows["all"].labels_PL[:, 1] = torch.nan
        return step(losses, balancer, *rest)

    monkeypatch.setattr(loop, "train_step", poisoned)
    with pytest.raises(TrialFailed, match="the training loss of delay is nan in epoch 1, first at step 7"):
        trained(order(epochs=1, batch_size=16), learnable(), ExperimentFolder(tmp_path).trial(3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", get_args(get_args(SamplingConfig)[0]))
@pytest.mark.parametrize("sequences", [False, True])
def test_every_way_of_sampling_goes_on_to_the_last_bit(monkeypatch, tmp_path, kind, sequences) -> None:
    data, tasks = (learnable_sequences(), SEQUENCE_TASKS) if sequences else (learnable(), TASKS)
    model = {"kind": "mmoe", "hidden": 8}
    trial = order(epochs=3, tasks=tasks, sampling=kind().model_dump(), batch_size=16, model=model)
    trial = trial.model_copy(update={"reference_losses": {task.name: 0.5 for task in tasks}})
    check(monkeypatch, tmp_path, trial, data)

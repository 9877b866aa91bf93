"""Task losses of a batch against a plain loop: missing labels count nowhere."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_train import TASKS, learnable, order

from mtlsearch.models import build_model
from mtlsearch.train import TensorData, World
from mtlsearch.train.losses import BatchLosses, LossTable
from mtlsearch.train.tensors import Batch


def losses_of(data: TensorData, batch: Batch, inner_fraction: float | None = None) -> BatchLosses:
    """The losses of a small model on the batch."""
    model = build_model(order().config.model, data.input_spec, data.widths, seed=1)
    return BatchLosses(model, batch, LossTable(TASKS, torch.device("cpu")), World(), inner_fraction=inner_fraction)


def plain(data: TensorData, batch: Batch, rows: range) -> list[float]:
    """Each task's mean loss over those rows that have its label, row by row."""
    model = build_model(order().config.model, data.input_spec, data.widths, seed=1)
    outputs, result = model(batch.inputs).tolist(), []
    for k, task in enumerate(TASKS):
        losses = []
        for row in rows:
            if batch.present_BK[row, k] == 0:
                continue
            output, label = outputs[row][k], float(batch.labels_BK[row, k])
            if task.kind == "binary":
                probability = 1 / (1 + math.exp(-output))
                losses.append(-math.log(probability if label == 1 else 1 - probability))
            else:
                losses.append((output - label) ** 2)
        result.append(sum(losses) / len(losses) if losses else 0.0)
    return result


def test_each_task_is_averaged_over_the_labels_that_it_has(data: TensorData) -> None:
    batch = data.splits["train"].take(torch.arange(40))
    assert losses_of(data, batch)().tolist() == pytest.approx(plain(data, batch, range(40)), abs=1e-5)


def test_a_task_absent_from_the_batch_has_loss_zero_and_a_zero_gradient(data: TensorData) -> None:
    batch = data.splits["train"].take(torch.arange(40))
    batch.present_BK[:, 2] = 0
    losses = losses_of(data, batch)
    loss_k = losses()
    assert loss_k[2] == 0
    gradients = torch.autograd.grad(loss_k[2], list(losses.parameters.values()), allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)


def test_a_label_that_is_missing_changes_nothing_whatever_stands_in_its_place(data: TensorData) -> None:
    batch = data.splits["train"].take(torch.arange(40))
    before = losses_of(data, batch)()
    batch.labels_BK[batch.present_BK == 0] = 1e6
    assert torch.equal(losses_of(data, batch)(), before)


def test_inner_and_outer_part_split_the_batch_at_the_fraction(data: TensorData) -> None:
    batch = data.splits["train"].take(torch.arange(40))
    losses = losses_of(data, batch, inner_fraction=0.8)
    at = {part: losses.at(losses.parameters, part).tolist() for part in ("all", "inner", "outer")}  # type: ignore[arg-type]
    assert at["all"] == pytest.approx(plain(data, batch, range(40)), abs=1e-5)
    assert at["inner"] == pytest.approx(plain(data, batch, range(32)), abs=1e-5)
    assert at["outer"] == pytest.approx(plain(data, batch, range(32, 40)), abs=1e-5)


def test_without_a_fraction_every_part_is_the_whole_batch(data: TensorData) -> None:
    batch = data.splits["train"].take(torch.arange(40))
    losses = losses_of(data, batch)
    assert torch.equal(losses.at(losses.parameters, "inner"), losses.at(losses.parameters, "outer"))


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_tasks_of_one_kind_take_the_short_way_to_the_same_losses(kind: str) -> None:
    data = learnable()
    names = [task.name for task in TASKS if task.kind == kind]
    some = data.only(names)
    rows = torch.arange(40)
    outputs_bo = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    columns = [index for index, task in enumerate(TASKS) if task.kind == kind]
    all_bk = LossTable(TASKS, torch.device("cpu"))(outputs_bo, data.splits["train"].take(rows).labels_BK)
    some_bk = LossTable(some.tasks, torch.device("cpu"))(
        outputs_bo[:, columns], some.splits["train"].take(rows).labels_BK
    )
    assert torch.equal(all_bk[:, columns], some_bk)

"""A sequence's one label at all steps up to its own: by a plain loop over sequences, and what it leaves alone.

Axes: B sequences, P predictions, L label columns.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest_train import CPU, SEQUENCE_TASKS, learnable, learnable_sequences, schema, sequence_splits
from torch import Tensor, nn

from mtlsearch.train import TensorData, World
from mtlsearch.train.batch import Batch
from mtlsearch.train.distributed import Seen
from mtlsearch.train.losses import BatchLosses, LossTable, counting

COLUMN_OF = {"sick": 0, "died": 1, "stay": 2, "signs": 3, "group": 5}
AT = {"died": 4, "stay": None, "signs": None, "group": 2}


def batches(data: TensorData, replication: float) -> list[Batch]:
    return list(data.epoch(torch.Generator().manual_seed(5), 64, World(), replication))


def weighted() -> TensorData:
    splits = sequence_splits()
    splits["train"] = replace(splits["train"], weights_NW=abs(splits["train"].numeric_NF[:, :1]) + 0.1)
    return TensorData.of(schema(SEQUENCE_TASKS, weighted=("stay",)), splits, CPU)


class Given(nn.Module):
    """A model that gives these outputs."""

    def __init__(self, outputs_PO: Tensor) -> None:
        super().__init__()
        self.outputs_PO = outputs_PO

    def forward(self, inputs: object) -> Seen:
        return Seen(self.outputs_PO, {})


def steps_of(batch: Batch, b: int) -> Tensor:
    """The predictions of a sequence, step by step."""
    assert batch.row_P is not None
    return (batch.row_P == b).nonzero()[:, 0]


def test_every_step_up_to_the_labels_own_has_it_and_its_share() -> None:
    plain, found = batches(learnable_sequences(), 0.0), batches(learnable_sequences(), 0.4)
    for once, batch in zip(plain, found, strict=True):
        assert batch.weight_PL is not None
        for b in range(batch.num_rows):
            steps = steps_of(batch, b)
            assert torch.equal(steps, steps_of(once, b))  # a task has a label a step, so all were there
            length = len(steps)
            for name, at in AT.items():
                column = COLUMN_OF[name]
                own = length - 1 if at is None else min(at, length - 1)
                label = once.labels_PL[steps[own], column]
                n = own + 1
                there, share = batch.labels_PL[steps, column], batch.weight_PL[steps, column]
                if label.isnan():  # missing, or the sequence is too short
                    assert there.isnan().all()
                    continue
                assert (there[:n] == label).all()
                assert there[n:].isnan().all()
                torch.testing.assert_close(share[:own], torch.full((own,), 0.4 / n))
                assert float(share[own]) == pytest.approx(0.6 + 0.4 / n)
                assert float(share[:n].sum()) == pytest.approx(1)


@pytest.mark.parametrize("replication", [0.3, 0.9])
@pytest.mark.parametrize("make", [learnable_sequences, weighted])
def test_a_sequences_weights_sum_to_its_usual_one(make: object, replication: float) -> None:
    data: TensorData = make()  # type: ignore[operator]
    for once, batch in zip(batches(data, 0.0), batches(data, replication), strict=True):
        assert once.row_P is not None
        assert batch.row_P is not None
        before, after = (
            torch.zeros(batch.num_rows, 6).index_add_(0, each.row_P, counting(each)) for each in (once, batch)
        )
        torch.testing.assert_close(before, after)


def test_labels_of_steps_are_as_ever() -> None:
    for once, batch in zip(batches(weighted(), 0.0), batches(weighted(), 0.5), strict=True):
        assert torch.equal(once.labels_PL[:, 0].nan_to_num(7), batch.labels_PL[:, 0].nan_to_num(7))
        assert batch.weight_PL is not None
        assert (batch.weight_PL[:, 0] == 1).all()


@pytest.mark.parametrize("make", [learnable_sequences, weighted])
def test_the_loss_is_the_plain_mixture_of_the_last_and_the_mean_of_all(make: object) -> None:
    """(1 − r)·L_last + r·mean_t L_t, its mean over sequences, sequence by sequence and step by step."""
    r, data = 0.4, make()  # type: ignore[operator]
    pairs = zip(batches(data, 0.0), batches(data, r), strict=True)
    # Sequences of like length share a batch: of those in which all labels are reached, one.
    once, batch = max(pairs, key=lambda pair: int((~pair[0].labels_PL[:, 1].isnan()).sum()))
    outputs_PO = torch.randn(len(batch.labels_PL), 8, generator=torch.Generator().manual_seed(3))
    found_K = BatchLosses(Given(outputs_PO), batch, LossTable(data.tasks, CPU), World())().loss_K
    for k, (name, at) in enumerate(AT.items(), 1):
        total = weight = 0.0
        for b in range(batch.num_rows):
            steps = steps_of(batch, b)
            own = len(steps) - 1 if at is None else min(at, len(steps) - 1)
            label_L = once.labels_PL[steps[own]]
            losses_T = [losses_of(name, outputs_PO[step], label_L) for step in steps[: own + 1]]
            w = 1.0 if once.weight_PL is None else float(once.weight_PL[steps[own], COLUMN_OF[name]])
            total += w * ((1 - r) * sum(losses_T[own]) + r * sum(map(sum, losses_T)) / (own + 1))
            weight += w * len(losses_T[own])
        assert float(found_K[k]) == pytest.approx(total / weight, rel=1e-5)


def losses_of(name: str, outputs_O: Tensor, label_L: Tensor) -> list[float]:
    """Of one prediction: a loss for each label that is there."""
    if name == "group":
        label = label_L[5]
        return [] if label.isnan() else [float(-outputs_O[5:8].log_softmax(0)[int(label)])]
    if name == "stay":
        return [] if label_L[2].isnan() else [float(outputs_O[2] - label_L[2]) ** 2]
    columns = [1] if name == "died" else [3, 4]
    entropy = nn.functional.binary_cross_entropy_with_logits
    return [float(entropy(outputs_O[c], label_L[c])) for c in columns if not label_L[c].isnan()]


def test_without_labels_of_steps_the_steps_up_to_the_latest_label_are_predicted() -> None:
    data = learnable_sequences().only(("died", "group"))
    for batch in batches(data, 0.5):
        steps = batch.inputs.steps
        assert steps is not None
        assert steps.length_B.max() <= 5
        inside_BT = torch.arange(steps.numeric_BTS.shape[1]) < steps.length_B[:, None]
        assert torch.equal(steps.position_P, inside_BT.flatten().nonzero()[:, 0])
        assert batch.row_P is not None
        late_P = steps.position_P % steps.numeric_BTS.shape[1] > 2
        assert batch.labels_PL[late_P, 1].isnan().all()


def test_evaluation_and_tables_know_nothing_of_it() -> None:
    assert all(batch.weight_PL is None for batch in batches(learnable(), 0.5))
    (batch,) = learnable_sequences({"train": 8, "validation": 8, "test": 8}).ordered("validation", 100, World())
    assert batch.weight_PL is None

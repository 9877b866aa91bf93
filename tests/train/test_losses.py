"""Task losses of a batch against plain loops: missing labels count nowhere, weighted ones as much as they weigh."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn

from mtlsearch.balancing import Losses
from mtlsearch.config import Task
from mtlsearch.models import Inputs
from mtlsearch.train import World
from mtlsearch.train.batch import Batch
from mtlsearch.train.distributed import Seen
from mtlsearch.train.losses import BatchLosses, LossTable

LATE, DELAY, GONE = (Task(name=n, kind=k) for n, k in (("late", "binary"), ("delay", "regression"), ("gone", "binary")))
GROUP, WARD, PORT = (
    Task(name=n, kind="multiclass", classes=tuple(c)) for n, c in (("group", "xyz"), ("ward", "ab"), ("port", "uvw"))
)
SIGNS = Task(name="signs", kind="multilabel", classes=("a", "b"))
MIXTURES = [
    pytest.param((LATE,), id="one binary"),
    pytest.param((LATE, GONE, SIGNS), id="logits"),
    pytest.param((DELAY,), id="regression"),
    pytest.param((LATE, DELAY, GONE), id="binary and regression"),
    pytest.param((GROUP, WARD, PORT), id="classes"),
    pytest.param((GROUP, DELAY), id="classes and regression"),
    pytest.param((WARD, LATE, GROUP, SIGNS, DELAY, PORT), id="all"),
]
ALL = (WARD, LATE, GROUP, SIGNS, DELAY, PORT)
ROWS = 40
CPU = torch.device("cpu")


class Linear(nn.Module):
    """Outputs of a batch's numeric columns, one prediction a row or as `row_P` says."""

    def __init__(self, num_outputs: int, row_P: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, num_outputs, generator=fresh()))
        self.row_P = row_P

    @property
    def by_name(self) -> dict[str, nn.Parameter]:
        return dict(self.named_parameters())

    def forward(self, inputs: Inputs) -> Seen:
        """With two penalties: one of the weights, one that each prediction has of its own."""
        rows_BF = inputs.numeric_BF if self.row_P is None else inputs.numeric_BF[self.row_P]
        penalties = {"weights": self.weight.square().sum(), "rows": rows_BF.square().sum(1)}
        return Seen(rows_BF @ self.weight, penalties)


def fresh() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def batch_of(tasks: tuple[Task, ...], *, weighted: bool = False, row_P: Tensor | None = None) -> Batch:
    draw, columns = fresh(), []
    size = ROWS if row_P is None else len(row_P)
    for task in tasks:
        for _ in range(task.num_labels):
            most = max(2, task.num_outputs)
            label_P = torch.randint(most if task.kind == "multiclass" else 2, (size,), generator=draw).float()
            columns.append(torch.randn(size, generator=draw) if task.kind == "regression" else label_P)
    labels_PL = torch.stack(columns, 1)
    labels_PL[torch.rand(labels_PL.shape, generator=draw) < 0.3] = torch.nan
    weight_PL = torch.rand(labels_PL.shape, generator=draw) if weighted else None
    inputs = Inputs(torch.randn(ROWS, 4, generator=draw), torch.zeros(ROWS, 0, dtype=torch.int64))
    return Batch(inputs, labels_PL, weight_PL, row_P)


def losses_of(tasks: tuple[Task, ...], batch: Batch, inner_fraction: float | None = None) -> BatchLosses:
    model = Linear(sum(task.num_outputs for task in tasks), batch.row_P)
    return BatchLosses(model, batch, LossTable(tasks, CPU), World(), inner_fraction=inner_fraction)


def at(losses: BatchLosses, part: str) -> Losses:
    """At the model's own parameters."""
    return losses.at(losses.parameters, part)  # type: ignore[arg-type]


def one_loss(kind: str, output: list[float], label: float) -> float:
    """Of one label."""
    if kind == "regression":
        return (output[0] - label) ** 2
    if kind == "multiclass":
        return math.log(sum(math.exp(x) for x in output)) - output[int(label)]
    probability = 1 / (1 + math.exp(-output[0]))
    return -math.log(probability if label == 1 else 1 - probability)


def label_columns(tasks: tuple[Task, ...]) -> Iterator[tuple[int, slice]]:
    """Of each label column: its task, and its outputs."""
    output = 0
    for k, task in enumerate(tasks):
        width = task.num_outputs // task.num_labels
        for _ in range(task.num_labels):
            yield k, slice(output, output + width)
            output += width


def plain(tasks: tuple[Task, ...], batch: Batch, predictions: list[int] | None = None) -> list[float]:
    """Each task's mean loss, label by label."""
    outputs = Linear(sum(task.num_outputs for task in tasks), batch.row_P)(batch.inputs).outputs_PO.tolist()
    total, weights = [0.0] * len(tasks), [0.0] * len(tasks)
    for p in range(len(outputs)) if predictions is None else predictions:
        for column, (k, where) in enumerate(label_columns(tasks)):
            label = float(batch.labels_PL[p, column])
            if math.isnan(label):
                continue
            weight = 1.0 if batch.weight_PL is None else float(batch.weight_PL[p, column])
            total[k] += weight * one_loss(tasks[k].kind, outputs[p][where], label)
            weights[k] += weight
    return [loss / weight if weight else 0.0 for loss, weight in zip(total, weights, strict=True)]


@pytest.mark.parametrize("tasks", MIXTURES)
@pytest.mark.parametrize("weighted", [False, True])
def test_each_task_is_averaged_over_the_labels_that_it_has(tasks, weighted) -> None:
    batch = batch_of(tasks, weighted=weighted)
    losses = losses_of(tasks, batch)
    assert losses.num_tasks == len(tasks)
    assert losses().loss_K.tolist() == pytest.approx(plain(tasks, batch), abs=1e-5)
    assert losses.at(losses.parameters).loss_K.tolist() == losses().loss_K.tolist()


@pytest.mark.parametrize("tasks", MIXTURES)
def test_gradients_are_those_of_the_mean_and_finite(tasks) -> None:
    """Against a difference."""
    batch = batch_of(tasks)
    losses = losses_of(tasks, batch)
    losses().loss_K.sum().backward()
    gradient = losses.parameters["weight"].grad
    assert gradient is not None
    assert gradient.isfinite().all()
    step = 1e-2
    for column in range(gradient.shape[1]):
        moved = [losses.parameters["weight"].detach().clone() for _ in range(2)]
        moved[0][1, column] += step
        moved[1][1, column] -= step
        above, below = (float(losses.at({"weight": weight}).loss_K.sum()) for weight in moved)
        assert (above - below) / (2 * step) == pytest.approx(float(gradient[1, column]), abs=2e-3)


@pytest.mark.parametrize("absent", range(len(ALL)))
def test_a_task_absent_from_the_batch_has_loss_zero_and_a_zero_gradient(absent) -> None:
    batch = batch_of(ALL)
    for column, (k, _) in enumerate(label_columns(ALL)):
        if k == absent:
            batch.labels_PL[:, column] = torch.nan
    losses = losses_of(ALL, batch)
    loss_K = losses().loss_K
    assert loss_K[absent] == 0
    assert (loss_K > 0).sum() == len(ALL) - 1
    (gradient,) = torch.autograd.grad(loss_K[absent], list(losses.parameters.values()))
    assert not gradient.any()


def test_a_weight_of_zero_is_a_missing_label() -> None:
    batch = batch_of((LATE, SIGNS))
    present_PL = ~batch.labels_PL.isnan()
    filled = batch._replace(labels_PL=batch.labels_PL.nan_to_num(1.0), weight_PL=present_PL.float())
    assert torch.equal(losses_of((LATE, SIGNS), filled)().loss_K, losses_of((LATE, SIGNS), batch)().loss_K)


def test_labels_are_left_as_they_are() -> None:
    batch = batch_of(ALL, weighted=True)
    before = batch.labels_PL.clone()
    losses_of(ALL, batch, 0.5)().loss_K.sum().backward()
    torch.testing.assert_close(batch.labels_PL, before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_inner_and_outer_part_split_the_batch_at_the_fraction(weighted) -> None:
    """.82 of 40 rows are 32, and not 33."""
    batch = batch_of(ALL, weighted=weighted)
    losses = losses_of(ALL, batch, inner_fraction=0.82)
    assert losses.at(losses.parameters, "all").loss_K.tolist() == pytest.approx(plain(ALL, batch), abs=1e-5)
    for part, rows in (("inner", range(32)), ("outer", range(32, 40))):
        expected = plain(ALL, batch, list(rows))
        assert at(losses, part).loss_K.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_sequence_is_on_one_side_with_all_its_predictions() -> None:
    row_P = torch.arange(ROWS).repeat_interleave(torch.randint(1, 5, (ROWS,), generator=fresh()))
    batch = batch_of(ALL, row_P=row_P)
    losses = losses_of(ALL, batch, inner_fraction=0.5)
    for part, side in (("inner", row_P < ROWS // 2), ("outer", row_P >= ROWS // 2)):
        expected = plain(ALL, batch, side.nonzero()[:, 0].tolist())
        assert at(losses, part).loss_K.tolist() == pytest.approx(expected, abs=1e-5)


def test_without_a_fraction_every_part_is_the_whole_batch() -> None:
    losses = losses_of(ALL, batch_of(ALL))
    inner, outer = at(losses, "inner"), at(losses, "outer")
    assert torch.equal(inner.loss_K, outer.loss_K)
    assert inner.penalties == outer.penalties == losses().penalties


def test_a_penalty_of_the_weights_is_as_it_is_and_one_of_predictions_is_their_mean() -> None:
    row_P = torch.arange(ROWS).repeat_interleave(torch.randint(1, 5, (ROWS,), generator=fresh()))
    batch = batch_of(ALL, row_P=row_P)
    losses = losses_of(ALL, batch, inner_fraction=0.5)
    squares_P = batch.inputs.numeric_BF[row_P].square().sum(1)
    weights = losses.parameters["weight"].square().sum()
    parts = (("all", row_P >= 0), ("inner", row_P < ROWS // 2), ("outer", row_P >= ROWS // 2))
    for part, inside_P in parts:
        penalties = at(losses, part).penalties
        torch.testing.assert_close(penalties["weights"], weights)
        torch.testing.assert_close(penalties["rows"], squares_P[inside_P].mean())


def test_a_part_without_any_prediction_has_no_penalty_of_them() -> None:
    """The one row of the inner part is a sequence of which nothing is predicted."""
    losses = losses_of(ALL, batch_of(ALL, row_P=torch.arange(1, ROWS)), inner_fraction=0.01)
    assert at(losses, "inner").penalties["rows"] == 0
    assert not at(losses, "inner").loss_K.any()


@pytest.mark.parametrize(
    ("rows", "fraction", "inner"), [(2, 0.4, 1), (2, 0.9, 1), (3, 0.1, 1), (3, 0.99, 2), (5, 0.4, 2), (40, 0.01, 1)]
)
def test_either_part_has_a_row(rows: int, fraction: float, inner: int) -> None:
    batch = first(batch_of((DELAY,)), rows)
    losses = losses_of((DELAY,), batch, fraction)
    for part, of_part in (("inner", range(inner)), ("outer", range(inner, rows))):
        assert at(losses, part).loss_K.tolist() == pytest.approx(plain((DELAY,), batch, list(of_part)), abs=1e-5)
        assert at(losses, part).penalties["rows"] > 0


def test_one_row_alone_is_both_parts() -> None:
    batch = first(batch_of((DELAY,)), 1)
    losses = losses_of((DELAY,), batch, 0.4)
    for part in ("inner", "outer"):
        assert at(losses, part).loss_K.tolist() == pytest.approx(plain((DELAY,), batch), abs=1e-5)


def first(batch: Batch, rows: int) -> Batch:
    """Of a table."""
    inputs = Inputs(batch.inputs.numeric_BF[:rows], batch.inputs.categorical_BC[:rows])
    return Batch(inputs, batch.labels_PL[:rows], None if batch.weight_PL is None else batch.weight_PL[:rows])


def test_a_penalty_in_bfloat16_is_summed_in_float32() -> None:
    """As losses are: in bfloat16, a sum of many is stuck at 256 times its summands."""
    batch = batch_of((LATE,))
    losses = BatchLosses(InBfloat16(1), batch, LossTable((LATE,), CPU), World())
    expected = batch.inputs.numeric_BF.square().sum(1).bfloat16().float().mean()
    torch.testing.assert_close(losses().penalties["rows"], expected, rtol=1e-6, atol=0)


class InBfloat16(Linear):
    """Whose penalties come from autocast."""

    def forward(self, inputs: Inputs) -> Seen:
        outputs_PO, penalties, _ = super().forward(inputs)
        return Seen(outputs_PO, {name: value.bfloat16() for name, value in penalties.items()})


@dataclass(frozen=True)
class OneOfTwo(World):
    """A rank that is a thread, beside another one."""

    size: int = 2
    meeting: Barrier = field(default_factory=lambda: Barrier(2, timeout=60))
    brought: dict[int, Tensor] = field(default_factory=dict)

    def sum(self, tensor: Tensor) -> Tensor:
        self.meeting.wait()
        self.brought[self.rank] = tensor
        self.meeting.wait()
        return self.brought[0] + self.brought[1]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("part", ["all", "inner", "outer"])
@pytest.mark.parametrize(("rows", "fraction"), [(39, 0.5), (2, 0.4), (3, 0.99)])
def test_the_mean_of_two_ranks_losses_is_the_loss_of_the_joint_batch(weighted, part, rows, fraction) -> None:
    """Of 39 rows: the ranks have not equally many, neither in all nor in the inner 19. Of 2, each has a part."""
    batch = first(batch_of(ALL, weighted=weighted), rows)
    inputs, one = batch.inputs, OneOfTwo()
    worlds = (one, replace(one, rank=1))

    def of_rank(world: OneOfTwo) -> Losses:
        rows = slice(world.rank, None, 2)
        weight_PL = None if batch.weight_PL is None else batch.weight_PL[rows]
        own = Batch(Inputs(inputs.numeric_BF[rows], inputs.categorical_BC[rows]), batch.labels_PL[rows], weight_PL)
        model = Linear(sum(task.num_outputs for task in ALL))
        return at(BatchLosses(model, own, LossTable(ALL, CPU), world, inner_fraction=fraction), part).detached()

    with ThreadPoolExecutor(2) as threads:
        ranks = list(threads.map(of_rank, worlds))
    joint = at(losses_of(ALL, batch, inner_fraction=fraction), part).detached()
    mean_K = torch.stack([rank.loss_K for rank in ranks]).mean(0)
    torch.testing.assert_close(mean_K, joint.loss_K, rtol=1e-6, atol=1e-6)
    for name, value in joint.penalties.items():
        mean = torch.stack([rank.penalties[name] for rank in ranks]).mean()
        torch.testing.assert_close(mean, value, rtol=1e-6, atol=1e-6)


def test_the_order_of_tasks_changes_nothing() -> None:
    outputs_PO, labels_PL = torch.randn(ROWS, 9, generator=fresh()), batch_of((WARD, GROUP, LATE, PORT)).labels_PL
    labels_PL = labels_PL.nan_to_num()
    loss_PL = LossTable((WARD, GROUP, LATE, PORT), CPU)(outputs_PO, labels_PL)
    other_O, other_L = [5, 6, 7, 8, 2, 3, 4, 0, 1], [2, 3, 1, 0]
    other_PL = LossTable((LATE, PORT, GROUP, WARD), CPU)(outputs_PO[:, other_O], labels_PL[:, other_L])
    assert torch.equal(other_PL, loss_PL[:, other_L])


@pytest.mark.parametrize("kind", ["binary", "regression"])
def test_tasks_of_one_kind_take_the_short_way_to_the_same_losses(kind) -> None:
    tasks = (LATE, DELAY, GONE)
    columns = [index for index, task in enumerate(tasks) if task.kind == kind]
    outputs_PO, labels_PL = torch.randn(ROWS, 3, generator=fresh()), batch_of(tasks).labels_PL.nan_to_num()
    all_PL = LossTable(tasks, CPU)(outputs_PO, labels_PL)
    some_PL = LossTable([tasks[column] for column in columns], CPU)(outputs_PO[:, columns], labels_PL[:, columns])
    assert torch.equal(all_PL[:, columns], some_PL)

"""What holds for every balancing method, on every architecture, on tables and on sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from toy_balancing import BALANCING, for_tasks
from toy_models import ARCHITECTURES, SEQUENCES, TABLE, T, small, some_inputs, tasks

from mtlsearch.balancing import BalancedStep, Losses, Part, build_balancer
from mtlsearch.balancing.parting import TaskStarts
from mtlsearch.config import (
    AdaShareConfig,
    Architecture,
    BalancingConfig,
    ExpertConfig,
    JmtConfig,
    ManMoeConfig,
    MMoEConfig,
)
from mtlsearch.models import Epoch, InputSpec, MultiTaskModel, begin_epoch, build_model
from mtlsearch.train.distributed import Trainee
from mtlsearch.train.losses import twice_differentiable

SLOW = pytest.mark.slow
QUICK = (MMoEConfig, AdaShareConfig, ManMoeConfig, JmtConfig)
ON_TABLES = [
    pytest.param(small(kind), TABLE, id=f"{kind.__name__} table", marks=() if kind in QUICK else SLOW)
    for kind in ARCHITECTURES
    if not kind.needs_steps
]
ON_SEQUENCES = [
    pytest.param(small(kind), SEQUENCES, id=f"{kind.__name__} sequences", marks=SLOW) for kind in ARCHITECTURES
]
RECURRENT = [expert for expert in get_args(get_args(ExpertConfig)[0]) if expert.reads_steps]
ON_SEQUENCES += [
    pytest.param(MMoEConfig(hidden=8, expert=expert()), SEQUENCES, id=f"MMoEConfig {expert.__name__}", marks=SLOW)
    for expert in RECURRENT
]
SIZE = 32
TASKS = tasks(1, 1, 1)


class ModelLosses:
    """Squared errors of a model on one batch, on one process; each prediction is of its row's first three numbers."""

    num_tasks = len(TASKS)

    def __init__(self, model: MultiTaskModel, spec: InputSpec, inner_fraction: float | None) -> None:
        self.trainee, self.inputs = Trainee(model), some_inputs(spec, SIZE)
        steps = self.inputs.steps
        self.row_P = torch.arange(SIZE) if steps is None else steps.position_P // T
        self.labels_PK = self.inputs.numeric_BF[:, :3].cumsum(1)[self.row_P]
        inner = SIZE if inner_fraction is None else round(SIZE * inner_fraction)
        inner_P = self.row_P < inner
        self.inside_P: dict[Part, Tensor] = {
            "all": self.row_P < SIZE,
            "inner": inner_P,
            "outer": inner_P if inner_fraction is None else ~inner_P,
        }

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return dict(self.trainee.named_parameters())

    @property
    def own_names(self) -> frozenset[str]:
        return frozenset(f"model.{name}" for name in self.trainee.model.own_names)

    @property
    def last_shared_names(self) -> tuple[str, ...]:
        return tuple(f"model.{name}" for name in self.trainee.model.last_shared_names)

    def __call__(self) -> Losses:
        return self.at(self.parameters)

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Losses:
        with twice_differentiable():
            seen = functional_call(self.trainee, dict(parameters), (self.inputs,))
        loss_PK = (seen.outputs_PO - self.labels_PK).square()
        penalties = {name: value.mean() for name, value in seen.penalties.items()}
        present_K = torch.ones(len(TASKS), dtype=torch.bool)
        return Losses(loss_PK[self.inside_P[part]].mean(0), penalties, present_K, seen.parting_KPH)

    def of_task(self, task: int, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        with twice_differentiable():
            outputs_P1 = functional_call(self.trainee, dict(parameters), (self.inputs, task))
        return (outputs_P1[:, 0] - self.labels_PK[:, task]).square()[self.inside_P[part]].mean()

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)


def train(config: BalancingConfig, architecture: Architecture, spec: InputSpec, steps: int) -> list[BalancedStep]:
    model = build_model(architecture, spec, TASKS, seed=0)
    begin_epoch(model, Epoch(1, 1, seed=0))
    balancer = build_balancer(for_tasks(config, TASKS), TASKS, seed=0)
    losses = ModelLosses(model, spec, balancer.inner_fraction)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    taken, before = [], total(losses)
    for _ in range(steps):
        adam.zero_grad()
        taken.append(balancer.backward(losses))
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.is_contiguous(), name
            assert not parameter.grad.requires_grad, name
        adam.step()
    assert total(losses) < before
    return taken


def total(losses: ModelLosses) -> float:
    """Of all tasks and penalties, on the whole batch."""
    with torch.no_grad():
        found = losses()
    return float(found.loss_K.sum() + found.penalty)


@pytest.mark.slow
@pytest.mark.parametrize("config", BALANCING)
@pytest.mark.parametrize(("architecture", "spec"), ON_TABLES + ON_SEQUENCES)
def test_every_parameter_gets_a_finite_gradient_and_the_loss_falls(config, architecture, spec) -> None:
    steps = train(config, architecture, spec, 8)
    assert all(step.losses.loss_K.shape == step.weights_K.shape == (3,) for step in steps)
    assert not any(step.losses.loss_K.requires_grad or step.weights_K.requires_grad for step in steps)


@pytest.mark.parametrize(("architecture", "spec"), ON_TABLES + ON_SEQUENCES)
def test_a_task_starts_where_the_tasks_ways_part(architecture, spec) -> None:
    losses = ModelLosses(build_model(architecture, spec, TASKS, seed=0), spec, None)
    found = losses()
    assert (found.parting_KPH is None) == isinstance(architecture, JmtConfig), "towers of JMT follow one another"
    shared = [p for name, p in losses.parameters.items() if name not in losses.own_names]
    own = [p for name, p in losses.parameters.items() if name in losses.own_names]
    places = [*shared, *([] if found.parting_KPH is None else [found.parting_KPH])]
    starts = TaskStarts(found, own)
    for task, loss in enumerate(found.loss_K):
        ours = starts.gradient(task, places)
        whole = torch.autograd.grad(loss, places, retain_graph=True, allow_unused=True)
        for one, other, place in zip(ours, whole, places, strict=True):
            zero = torch.zeros_like(place)
            torch.testing.assert_close(zero if one is None else one, zero if other is None else other)
    for one, other in zip(starts.own, torch.autograd.grad(found.loss_K.sum(), own), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("config", BALANCING)
def test_the_same_again_gives_the_same(config) -> None:
    first, second = (train(config, small(MMoEConfig), TABLE, 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.losses.loss_K, other.losses.loss_K)
        assert torch.equal(one.weights_K, other.weights_K)


@pytest.mark.parametrize("config", BALANCING)
def test_what_goes_on_from_a_state_goes_on_alike(config, tmp_path) -> None:
    first, other = (build_balancer(for_tasks(config, TASKS), TASKS, seed) for seed in (0, 1))
    model = build_model(small(MMoEConfig), TABLE, TASKS, seed=0)
    losses = ModelLosses(model, TABLE, first.inner_fraction)
    for epoch in (1, 2, 3):
        first.begin_epoch(epoch)
        for _ in range(2):
            first.backward(losses)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        one, two = first.backward(losses), other.backward(losses)
        assert torch.equal(one.weights_K, two.weights_K)
        gradients = []
        for balancer in (first, other):
            model.zero_grad(set_to_none=True)
            balancer.backward(losses)
            gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))

"""What holds for every balancing method, on every architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtlsearch.balancing import BalancedStep, Part, build_balancer
from mtlsearch.config import ArchitectureConfig, BalancingConfig, ExpertConfig, MamlMtlConfig, MMoEConfig
from mtlsearch.models import Inputs, InputSpec, MultiTaskModel, build_model

KINDS = get_args(get_args(BalancingConfig)[0])
CONFIGS = [pytest.param(kind(), id=kind.__name__) for kind in KINDS]
CONFIGS.append(pytest.param(MamlMtlConfig(order=2, inner_steps=2, inner_fraction=0.5), id="MamlMtlConfig second order"))
MODELS = [pytest.param(kind(hidden=8), id=kind.__name__) for kind in get_args(get_args(ArchitectureConfig)[0])]
RECURRENT = [expert for expert in get_args(get_args(ExpertConfig)[0]) if expert.reads_steps]
MODELS += [
    pytest.param(MMoEConfig(hidden=8, expert=expert()), id=f"MMoEConfig {expert.__name__}") for expert in RECURRENT
]
SIZE = 32


class ModelLosses:
    """Squared errors of a model on one batch, on one process."""

    num_tasks = 3

    def __init__(self, model: MultiTaskModel, inner_fraction: float | None) -> None:
        generator = torch.Generator().manual_seed(0)
        categorical_BC = torch.randint(4, (SIZE, 2), generator=generator)
        self.inputs = Inputs(torch.randn(SIZE, 3, generator=generator), categorical_BC)
        self.labels_BK = self.inputs.numeric_BF.cumsum(1)
        inner = SIZE if inner_fraction is None else round(SIZE * inner_fraction)
        outer = slice(SIZE) if inner_fraction is None else slice(inner, SIZE)
        self.rows = {"all": slice(SIZE), "inner": slice(inner), "outer": outer}
        self.model = model

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def __call__(self) -> Tensor:
        return self.at(self.parameters)

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        rows = self.rows[part]
        inputs = Inputs(self.inputs.numeric_BF[rows], self.inputs.categorical_BC[rows])
        outputs_BK = functional_call(self.model, dict(parameters), (inputs,))
        return (outputs_BK - self.labels_BK[rows]).square().mean(0)

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)


def train(config: BalancingConfig, architecture: ArchitectureConfig, steps: int) -> list[BalancedStep]:
    model = build_model(architecture, InputSpec(3, (4, 4)), (1, 1, 1), seed=0)
    balancer = build_balancer(config, 3, seed=0)
    losses = ModelLosses(model, balancer.inner_fraction)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    taken = []
    for _ in range(steps):
        adam.zero_grad()
        taken.append(balancer.backward(losses))
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.is_contiguous(), name
            assert not parameter.grad.requires_grad, name
        adam.step()
    return taken


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("architecture", MODELS)
def test_every_parameter_gets_a_finite_gradient_and_the_loss_falls(config, architecture) -> None:
    steps = train(config, architecture, 20)
    assert steps[-1].loss_K.sum() < steps[0].loss_K.sum()
    assert all(step.loss_K.shape == step.weights_K.shape == (3,) for step in steps)
    assert not any(step.loss_K.requires_grad or step.weights_K.requires_grad for step in steps)


@pytest.mark.parametrize("config", CONFIGS)
def test_the_same_again_gives_the_same(config) -> None:
    first, second = (train(config, get_args(get_args(ArchitectureConfig)[0])[-1](), 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.loss_K, other.loss_K)
        assert torch.equal(one.weights_K, other.weights_K)


@pytest.mark.parametrize("config", CONFIGS)
def test_state_round_trip(config, tmp_path) -> None:
    balancer = build_balancer(config, 3, seed=0)
    torch.save(balancer.state_dict(), tmp_path / "state.pt")
    other = build_balancer(config, 3, seed=1)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.state_dict() == balancer.state_dict()

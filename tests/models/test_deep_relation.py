"""The prior over towers: by the plain Kronecker formula and flip-flop, in a model, and what it learns of tasks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from toy_models import TABLE, some_inputs, tasks

from mtlsearch.config import ConditionedConfig, DeepRelationConfig, Served, SharedBottomConfig
from mtlsearch.models import Epoch, Inputs, InputSpec, MultiTaskModel, begin_epoch, build_model
from mtlsearch.models.deep_relation import SHRINKAGE, TensorNormal, TowerRelation

SHAPE = (3, 4, 2)


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_model(strength: float = 0.5, period: int = 1, widths: tuple[int, ...] = (1, 1, 1)) -> MultiTaskModel:
    regularizer = DeepRelationConfig(strength=strength, period=period)
    config = SharedBottomConfig(hidden=6, tower_hidden=4, regularizer=regularizer)
    return build_model(config, TABLE, tasks(*widths), seed=0)


def relation_of(model: MultiTaskModel) -> TowerRelation:
    assert model.relation is not None
    return model.relation


def fitted(rounds: int, *shape: int) -> TensorNormal:
    """After rounds on other weights each time."""
    prior = TensorNormal(shape).double()
    for seed in range(rounds):
        prior.fit(weights(*shape, seed=seed))
    return prior


def covariances_of(prior: TensorNormal) -> list[torch.Tensor]:
    """S₁, S₂, S₃, of which the prior keeps the inverses."""
    return [torch.linalg.inv(precision.double()) for precision in prior.precisions]


def plainly(w: np.ndarray, rounds: int) -> list[np.ndarray]:
    """The oracle: S₁, S₂, S₃ by the paper's formula, then our trace and shrinkage; the Kronecker products in full."""
    sizes = w.shape
    covariances = [np.eye(size) for size in sizes]
    for _ in range(rounds):
        for mode, size in enumerate(sizes):
            others = [covariances[other] for other in range(3) if other != mode]
            w_n = np.moveaxis(w, mode, 0).reshape(size, -1)
            s = w_n @ np.linalg.inv(np.kron(*others)) @ w_n.T / (w.size / size)
            s = s * size / np.trace(s)
            covariances[mode] = (1 - SHRINKAGE) * s + SHRINKAGE * np.eye(size)
    return covariances


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("shape", [SHAPE, (2, 5, 1), (1, 3, 4)])
def test_updates_are_the_plain_flip_flop(rounds: int, shape: tuple[int, ...]) -> None:
    prior, w = TensorNormal(shape).double(), weights(*shape)
    for _ in range(rounds):
        prior.fit(w)
    for found, expected in zip(covariances_of(prior), plainly(w.numpy(), rounds), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_the_cost_is_that_of_the_kronecker_product() -> None:
    prior, w = fitted(3, *SHAPE), weights(*SHAPE, seed=9)
    s1, s2, s3 = (covariance.numpy() for covariance in covariances_of(prior))
    vec = w.numpy().reshape(-1)
    expected = 0.5 * vec @ np.linalg.inv(np.kron(np.kron(s1, s2), s3)) @ vec
    assert float(prior(w)) == pytest.approx(expected, rel=1e-10)
    assert float(TensorNormal(SHAPE)(w.float())) == pytest.approx(0.5 * float(w.square().sum()))


def test_the_covariances_are_constants_for_the_gradient() -> None:
    prior, w = fitted(2, *SHAPE), weights(*SHAPE, seed=9).requires_grad_()
    (gradient,) = torch.autograd.grad(prior(w), w, create_graph=True)
    s1, s2, s3 = (covariance.numpy() for covariance in covariances_of(prior))
    product = np.linalg.inv(np.kron(np.kron(s1, s2), s3)) @ w.detach().numpy().reshape(-1)
    np.testing.assert_allclose(gradient.detach().numpy().reshape(-1), product, rtol=1e-8)
    assert torch.autograd.grad(gradient.sum(), w)[0].isfinite().all()  # and has a gradient itself


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e10])
def test_covariances_stay_symmetric_positive_definite_whatever_the_weights(scale: float) -> None:
    """Also of tasks that are all the same, of which the covariance has rank one."""
    prior, w = TensorNormal((3, 8, 2)), scale * weights(1, 8, 2).expand(3, -1, -1).float()
    for _ in range(20):
        prior.fit(w)
    for covariance in covariances_of(prior):
        assert torch.allclose(covariance, covariance.T, atol=1e-5)
        assert float(torch.linalg.eigvalsh(covariance).min()) > 0.9 * SHRINKAGE
        assert float(covariance.trace()) == pytest.approx(len(covariance), rel=1e-4)
    assert prior(w).isfinite()


def test_weights_that_have_exploded_give_a_loss_that_is_no_number() -> None:
    prior, w = TensorNormal((2, 3, 1)), torch.full((2, 3, 1), torch.nan)
    prior.fit(w)
    assert prior(w).isnan()


class TestInAModel:
    """The relation of a model's towers."""

    def test_it_costs_what_the_layers_cost_together(self) -> None:
        model = a_model(strength=0.5)
        inputs = some_inputs(TABLE)
        outputs_PO, penalties = model.penalised(inputs)
        expected = 0.25 * sum(float(weight.detach().square().sum()) for weight in model.tower_weights())  # identities
        assert float(penalties["deep_relation"].detach()) == pytest.approx(expected, rel=1e-5)
        assert torch.equal(outputs_PO, model(inputs))
        assert [tuple(weight.shape) for weight in model.tower_weights()] == [(3, 6, 4), (3, 4, 1)]

    def test_output_layers_of_unequal_widths_are_left_out(self) -> None:
        assert [tuple(weight.shape) for weight in a_model(widths=(1, 3)).tower_weights()] == [(2, 6, 4)]

    def test_pinned(self) -> None:
        model = a_model()
        begin_epoch(model, Epoch(2, 5, 0))
        assert float(relation_of(model)().detach()) == pytest.approx(1.059527, rel=1e-5)

    def test_updates_come_every_period_and_not_before_the_first_epoch(self) -> None:
        model, changed = a_model(period=2), []
        for number in range(1, 7):
            with torch.no_grad():
                model.tower_weights()[0].mul_(torch.rand(4))
            before = [buffer.clone() for buffer in relation_of(model).buffers()]
            begin_epoch(model, Epoch(number, 6, 0))
            pairs = zip(before, relation_of(model).buffers(), strict=True)
            changed.append(not all(torch.equal(old, new) for old, new in pairs))
        assert changed == [False, False, True, False, True, False]

    def test_functional_call_puts_its_weights_in(self) -> None:
        model = a_model()
        begin_epoch(model, Epoch(2, 5, 0))
        doubled = {name: 2 * parameter.detach() for name, parameter in model.named_parameters()}
        called = functional_call(Penalty(model), {f"model.{name}": value for name, value in doubled.items()}, ())
        assert float(called) == pytest.approx(4 * float(relation_of(model)().detach()), rel=1e-5)

    def test_a_copy_looks_at_its_own_weights(self) -> None:
        model = a_model()
        copied = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.zero_()
        assert float(relation_of(copied)().detach()) == 0 < float(relation_of(model)().detach())

    def test_the_state_has_the_covariances_and_no_weight_twice(self) -> None:
        model, plain = a_model(), build_model(SharedBottomConfig(hidden=6, tower_hidden=4), TABLE, tasks(1, 1, 1), 0)
        begin_epoch(model, Epoch(2, 5, 0))
        state, other = model.state_dict(), a_model()
        assert state.keys() - plain.state_dict().keys() == {
            f"relation.priors.{layer}.precision_{mode}" for layer in range(2) for mode in (1, 2, 3)
        }
        assert len(list(model.parameters())) == len(list(plain.parameters()))
        other.load_state_dict(state)
        assert torch.equal(relation_of(other)(), relation_of(model)())

    def test_autocast_does_not_round_it(self) -> None:
        model = a_model()
        begin_epoch(model, Epoch(2, 5, 0))
        expected = relation_of(model)()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(relation_of(model)(), expected)

    def test_a_task_alone_is_fine(self) -> None:
        model = a_model(widths=(2,))
        begin_epoch(model, Epoch(2, 5, 0))
        assert relation_of(model)().isfinite()


class Penalty(torch.nn.Module):
    """The penalty as a forward pass."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        return relation_of(self.model)()


def test_it_learns_which_tasks_are_alike_and_which_opposite() -> None:
    """Two tasks with the same labels, a third with the opposite, each with noise of its own."""
    draw = torch.Generator().manual_seed(0)
    x_BF = torch.randn(256, 8, generator=draw)
    y_B1 = torch.sin(x_BF @ torch.randn(8, 1, generator=draw))
    y_BK = y_B1 * torch.tensor([1.0, 1.0, -1.0]) + 0.1 * torch.randn(256, 3, generator=draw)
    config = SharedBottomConfig(hidden=32, tower_layers=0, regularizer=DeepRelationConfig(strength=0.1))
    model = build_model(config, InputSpec(8, ()), tasks(1, 1, 1), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs = Inputs(x_BF, torch.zeros(256, 0, dtype=torch.int64))
    for number in range(1, 16):
        begin_epoch(model, Epoch(number, 15, 0))
        for _ in range(10):
            outputs_PO, penalties = model.penalised(inputs)
            optimizer.zero_grad()
            ((outputs_PO - y_BK).square().mean() + penalties["deep_relation"]).backward()
            optimizer.step()
    (prior,) = relation_of(model).priors
    assert isinstance(prior, TensorNormal)
    correlation = normed(covariances_of(prior)[0])
    assert correlation[0, 1] > 0.3
    assert correlation[0, 2] < -0.3
    assert correlation[1, 2] < -0.3


def normed(covariance: Tensor) -> Tensor:
    """Correlations."""
    deviation = covariance.diagonal().sqrt()
    return covariance / deviation / deviation[:, None]


@pytest.mark.parametrize(
    ("config", "widths", "told"),
    [
        (SharedBottomConfig(tower_layers=0), (1, 3), "Write `tower_layers: 1`"),
        (SharedBottomConfig(tower_layers=0), (3, 3), None),
        (SharedBottomConfig(), (1, 3), None),
        (ConditionedConfig(), (1, 3), "Write `conditioning: multi_head` with `tower_layers: 1`"),
        (ConditionedConfig(), (1, 1), None),
        (ConditionedConfig(conditioning="multi_head"), (1, 3), None),
    ],
)
def test_there_must_be_a_layer_that_all_tasks_have_alike(config, widths, told) -> None:
    served = Served(tasks(*widths), has_steps=False)
    assert config.infeasible(served) is None
    asked = config.model_copy(update={"regularizer": DeepRelationConfig()})
    reason = asked.infeasible(served)
    assert (reason is None) == (told is None)
    if told is not None:
        assert told in reason
        assert "1 and 3 outputs" in reason

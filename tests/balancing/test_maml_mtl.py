"""MAML-MTL against its definition, on a shared layer, a head a task and a parameter that nobody reads.

The first layer has so many inputs that its step is not written out where there is one rank and one inner step.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from toy_models import tasks

from mtlsearch.balancing import Losses, Part, build_balancer, two_steps
from mtlsearch.balancing.data_products import FindProducts
from mtlsearch.config import MamlMtlConfig

ETA = 0.3
NUM_TASKS, NUM_INPUTS = 3, 40
TASKS = tasks(1, 1, 1)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(NUM_INPUTS, 5)
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(NUM_TASKS))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x_BI: Tensor) -> Tensor:
        h_BH = torch.tanh(self.shared(x_BI))
        return torch.cat([head(h_BH) for head in self.heads], 1)


class NetworkLosses:
    """The plainest TaskLosses: squared error on one process, a part being some of the rows."""

    num_tasks = NUM_TASKS

    def __init__(
        self, rows: Mapping[Part, slice], *, share: float = 1.0, decay: float = 0.0, absent: Sequence[int] = ()
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = Network().double()
        self.x_BI = torch.randn(10, NUM_INPUTS, generator=generator, dtype=torch.float64) / 3
        self.y_BK = torch.randn(10, NUM_TASKS, generator=generator, dtype=torch.float64)
        self.rows, self.share, self.decay = rows, share, decay
        self.present_K = torch.tensor([task not in absent for task in range(NUM_TASKS)])
        self.asked: list[int] = []

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    @property
    def own_names(self) -> frozenset[str]:
        return frozenset(name for name in self.parameters if name.startswith("heads"))

    def __call__(self) -> Losses:
        return self.at(self.parameters, "all")

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Losses:
        penalty = torch.stack([p.square().sum() for p in parameters.values()]).sum()
        return Losses(
            self.of_tasks(parameters, part), {"decay": self.decay * penalty} if self.decay else {}, self.present_K
        )

    def of_task(self, task: int, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        self.asked.append(task)
        return self.of_tasks(parameters, part)[task]

    def of_tasks(self, parameters: Mapping[str, Tensor], part: Part) -> Tensor:
        rows = self.rows[part]
        outputs_BK = functional_call(self.network, dict(parameters), (self.x_BI[rows],))
        return (outputs_BK - self.y_BK[rows]).square().mean(0) * self.present_K

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors) if self.share == 1 else [self.share * tensor for tensor in tensors]


FULL: Mapping[Part, slice] = {"all": slice(10), "inner": slice(10), "outer": slice(10)}
SPLIT: Mapping[Part, slice] = {"all": slice(10), "inner": slice(7), "outer": slice(7, 10)}
ROWS = pytest.mark.parametrize("rows", [FULL, SPLIT], ids=["full", "split"])
STEPS = pytest.mark.parametrize("steps", [1, 2, 3])


def balanced(losses: NetworkLosses, order: int, steps: int) -> dict[str, Tensor]:
    config = MamlMtlConfig(inner_lr=ETA, order=order, inner_steps=steps)
    build_balancer(config, TASKS, seed=0).backward(losses)
    return {name: p.grad for name, p in losses.parameters.items() if p.grad is not None}


def objective(losses: NetworkLosses, steps: int, theta: Mapping[str, Tensor]) -> Tensor:
    """Σ_k L_k(θ_k; outer) as a function of θ."""
    total = torch.zeros((), dtype=torch.float64)
    for task in range(NUM_TASKS):
        theta_k = dict(theta)
        for _ in range(steps):
            slope = grad(lambda p, task=task: losses.of_tasks(p, "inner")[task])(theta_k)
            theta_k = {name: value - ETA * slope[name] for name, value in theta_k.items()}
        total = total + losses.of_tasks(theta_k, "outer")[task]
    return total


def first_order_oracle(losses: NetworkLosses, steps: int) -> dict[str, Tensor]:
    """The loop as it is usually written: a copy of the network for each task, stepped by SGD."""
    total = {name: torch.zeros_like(p) for name, p in losses.parameters.items()}
    original = losses.network
    for task in range(NUM_TASKS):
        losses.network = copy.deepcopy(original)
        sgd = torch.optim.SGD(losses.network.parameters(), lr=ETA)
        for _ in range(steps):
            sgd.zero_grad()
            losses.of_tasks(losses.parameters, "inner")[task].backward()
            sgd.step()
        sgd.zero_grad()
        losses.of_tasks(losses.parameters, "outer")[task].backward()
        for name, parameter in losses.parameters.items():
            if parameter.grad is not None:
                total[name] += parameter.grad
    losses.network = original
    return total


def second_order_oracle(losses: NetworkLosses, steps: int) -> dict[str, Tensor]:
    theta = {name: p.detach() for name, p in losses.parameters.items()}
    return grad(lambda p: objective(losses, steps, p))(theta)


def difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@ROWS
@STEPS
def test_first_order_is_the_loop_over_copies(rows, steps) -> None:
    losses = NetworkLosses(rows)
    assert difference(balanced(losses, 1, steps), first_order_oracle(losses, steps)) < 1e-12


@ROWS
@pytest.mark.parametrize("order", [1, 2])
def test_a_step_that_is_not_written_out_is_the_one_that_is(rows, order, monkeypatch) -> None:
    losses, found = NetworkLosses(rows), []
    monkeypatch.setattr(FindProducts, "products", property(lambda self: found.append(self._products) or found[-1]))
    kept_apart = balanced(losses, order, 1)
    assert [product.names for product in found[0].values()] == [["shared.weight", "shared.bias"]]
    monkeypatch.setattr(two_steps, "is_alone", lambda losses: False)
    assert difference(kept_apart, balanced(losses, order, 1)) < 1e-12
    assert not found[1]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 2])
def test_an_absent_task_takes_no_part(order, steps) -> None:
    losses = NetworkLosses(SPLIT, absent=[1])
    oracle = second_order_oracle if order == 2 else first_order_oracle
    expected = oracle(losses, steps)
    losses.asked.clear()
    config = MamlMtlConfig(inner_lr=ETA, order=order, inner_steps=steps)
    step = build_balancer(config, TASKS, seed=0).backward(losses)
    found = {name: p.grad for name, p in losses.parameters.items() if p.grad is not None}
    assert difference(found, expected) < 1e-12
    assert step.weights_K.tolist() == [1, 0, 1]
    assert 1 not in losses.asked


def test_a_batch_without_any_label_changes_nothing() -> None:
    losses = NetworkLosses(FULL, absent=range(NUM_TASKS))
    for order in (1, 2):
        config = MamlMtlConfig(inner_lr=ETA, order=order)
        assert not build_balancer(config, TASKS, seed=0).backward(losses).weights_K.any()
        assert not any(p.grad is None or p.grad.any() for p in losses.parameters.values())


@ROWS
@STEPS
def test_second_order_is_the_gradient_of_the_whole_objective(rows, steps) -> None:
    losses = NetworkLosses(rows)
    assert difference(balanced(losses, 2, steps), second_order_oracle(losses, steps)) < 1e-12


@pytest.mark.parametrize("steps", [1, 2])
def test_second_order_is_the_slope_that_finite_differences_see(steps) -> None:
    losses = NetworkLosses(SPLIT)
    gradient = balanced(losses, 2, steps)
    generator = torch.Generator().manual_seed(1)
    theta = {name: p.detach() for name, p in losses.parameters.items()}
    for _ in range(3):
        way = {n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in theta.items()}
        ahead, behind = (
            objective(losses, steps, {n: p + step * way[n] for n, p in theta.items()}) for step in (1e-5, -1e-5)
        )
        slope = sum(float((gradient[n] * way[n]).sum()) for n in theta)
        assert float(ahead - behind) / 2e-5 == pytest.approx(slope, abs=1e-7)


def test_the_oracles_tell_the_orders_and_the_parts_apart() -> None:
    """The test of the test: mutants must fail it."""
    losses = NetworkLosses(SPLIT)
    first, second = balanced(losses, 1, 1), balanced(losses, 2, 1)
    assert difference(first, second_order_oracle(losses, 1)) > 1e-2
    assert difference(second, first_order_oracle(losses, 1)) > 1e-2
    assert difference(first, first_order_oracle(NetworkLosses(FULL), 1)) > 1e-2
    swapped = NetworkLosses({**SPLIT, "inner": SPLIT["outer"], "outer": SPLIT["inner"]})
    assert difference(second, second_order_oracle(swapped, 1)) > 1e-2
    assert difference(second, balanced(losses, 2, 2)) > 1e-2


class QuadraticLosses(NetworkLosses):
    """L_k(θ) = ½ a_k (θ - c_k)² with one number θ = 1, a = (1, 2), c = (0, 3)."""

    num_tasks = 2

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self.theta = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return {"theta": self.theta}

    def at(self, parameters: Mapping[str, Tensor], part: Part = "all") -> Losses:
        a_K, c_K = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.0, 3.0]).double()
        return Losses(0.5 * a_K * (parameters["theta"] - c_K).square(), {}, torch.ones(2, dtype=torch.bool))

    def of_task(self, task: int, parameters: Mapping[str, Tensor], part: Part = "all") -> Tensor:
        return self.at(parameters, part).loss_K[task]


@pytest.mark.parametrize(
    ("order", "steps", "expected"),
    [  # Σ a_k (1 - η a_k)^(order · steps) (θ - c_k) at η = 1/4: factors 3/4 and 1/2
        (1, 1, 0.75 - 4 * 0.5),
        (1, 2, 0.75**2 - 4 * 0.5**2),
        (2, 1, 0.75**2 - 4 * 0.5**2),
        (2, 3, 0.75**6 - 4 * 0.5**6),
    ],
)
def test_pinned_on_two_parabolas(order: int, steps: int, expected: float) -> None:
    losses = QuadraticLosses()
    config = MamlMtlConfig(inner_lr=0.25, order=order, inner_steps=steps)
    step = build_balancer(config, TASKS[:2], seed=0).backward(losses)
    assert losses.theta.grad is not None
    assert losses.theta.grad.item() == pytest.approx(expected, abs=1e-12)
    assert step.losses.loss_K.tolist() == [0.5, 4.0]
    assert step.weights_K.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("order", [1, 2])
def test_inner_and_outer_gradients_are_averaged_over_ranks(order: int) -> None:
    """A second rank with zero gradients halves every mean: η acts as η/2, and the result is halved."""
    losses = QuadraticLosses(share=0.5)
    build_balancer(MamlMtlConfig(inner_lr=0.25, order=order), TASKS[:2], seed=0).backward(losses)
    expected = 0.5 * (0.875**order - 4 * 0.75**order)
    assert losses.theta.grad is not None
    assert losses.theta.grad.item() == pytest.approx(expected, abs=1e-12)


def test_a_parameter_that_nobody_reads_gets_zeros() -> None:
    assert not balanced(NetworkLosses(FULL), 2, 1)["unused"].any()


def test_a_vanishing_inner_step_is_the_plain_gradient_of_the_outer_part() -> None:
    losses = NetworkLosses(SPLIT)
    losses.of_tasks(losses.parameters, "outer").sum().backward()
    plain = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in losses.parameters.items()}
    config = MamlMtlConfig(inner_lr=1e-9, order=2)
    build_balancer(config, TASKS, seed=0).backward(losses)
    tiny = {name: p.grad for name, p in losses.parameters.items() if p.grad is not None}
    assert difference(tiny, plain) < 1e-7


def test_how_the_batch_is_to_be_split() -> None:
    assert build_balancer(MamlMtlConfig(), TASKS[:2], seed=0).inner_fraction is None
    assert build_balancer(MamlMtlConfig(inner_fraction=0.8), TASKS[:2], seed=0).inner_fraction == 0.8


@pytest.mark.parametrize("order", [1, 2])
def test_the_models_own_regularisers_count_once_and_at_theta(order: int) -> None:
    plain, regularised = balanced(NetworkLosses(SPLIT), order, 2), balanced(NetworkLosses(SPLIT, decay=0.1), order, 2)
    for name, parameter in NetworkLosses(SPLIT).parameters.items():
        torch.testing.assert_close(regularised[name], plain[name] + 0.2 * parameter.detach(), rtol=0, atol=1e-12)

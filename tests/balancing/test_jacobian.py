"""What methods on the Jacobian share: whose gradient goes where, and what is left out of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from toy_losses import TASKS, ToyLosses

from mtlsearch.balancing import build_balancer
from mtlsearch.balancing.jacobian import CHUNK, GramianBalancer, JacobianBalancer, gramian
from mtlsearch.balancing.linear_rows import LinearRows
from mtlsearch.config import PcGradConfig, UniformConfig

SHARED = ("shared.weight", "shared.bias", "last.weight", "last.bias")


class Fixed(GramianBalancer):
    """Weighs rows 1, 2, 4 and keeps the inner products."""

    def weights(self, gramian_TT: Tensor) -> Tensor:
        self.gramian_TT = gramian_TT
        return torch.tensor([2.0**row for row in range(len(gramian_TT))], dtype=torch.float64)


class Product(JacobianBalancer):
    """No weighing of rows at all: every position is the product of its rows."""

    def combine(self, rows_TN: Tensor, layers: Sequence[LinearRows] = ()) -> tuple[Tensor, Tensor]:
        return rows_TN.prod(0), rows_TN.new_ones(len(rows_TN))


def gradients(losses: ToyLosses) -> dict[str, Tensor]:
    """What a backward pass left."""
    assert all(p.grad is not None and p.grad.is_contiguous() for p in losses.parameters.values())
    return {name: p.grad for name, p in losses.parameters.items() if p.grad is not None}


def rows(losses: ToyLosses, task: int) -> dict[str, Tensor]:
    """One task's plain gradient."""
    loss = losses.of_task(task, losses.parameters)
    found = torch.autograd.grad(loss, list(losses.parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(losses.parameters, found, strict=True))


def test_shared_parameters_get_the_combination_and_own_ones_their_tasks_gradient() -> None:
    losses, balancer = ToyLosses(), Fixed()
    step = balancer.backward(losses)
    one, two, three = (rows(losses, task) for task in range(3))
    for name, gradient in gradients(losses).items():
        shared = name in SHARED
        expected = one[name] + (2 * two[name] + 4 * three[name] if shared else two[name] + three[name])
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    assert step.weights_K.tolist() == [1, 2, 4]
    assert not step.losses.loss_K.requires_grad
    flat_TN = torch.stack([torch.cat([row[name].flatten() for name in SHARED]) for row in (one, two, three)])
    torch.testing.assert_close(balancer.gramian_TT, flat_TN @ flat_TN.T, rtol=0, atol=1e-12)


def test_a_task_without_labels_has_no_row() -> None:
    losses, balancer = ToyLosses(absent=[1]), Fixed()
    step = balancer.backward(losses)
    one, three = rows(losses, 0), rows(losses, 2)
    for name, gradient in gradients(losses).items():
        expected = one[name] + (2 if name in SHARED else 1) * three[name]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    assert step.weights_K.tolist() == [1, 0, 2]  # the second row is the third task's
    assert balancer.gramian_TT.shape == (2, 2)


@pytest.mark.parametrize("absent", [(0, 2), (0, 1, 2)])
def test_one_task_or_none_is_the_plain_sum(absent: tuple[int, ...]) -> None:
    losses, plain = ToyLosses(absent=absent, decay=0.1), ToyLosses(absent=absent, decay=0.1)
    step = Fixed().backward(losses)
    build_balancer(UniformConfig(), TASKS, seed=0).backward(plain)
    for name, gradient in gradients(losses).items():
        torch.testing.assert_close(gradient, gradients(plain)[name], rtol=0, atol=1e-12)
    assert step.weights_K.tolist() == [float(task not in absent) for task in range(3)]


def test_without_shared_parameters_it_is_the_plain_sum() -> None:
    class AllOwn(ToyLosses):
        own_names = property(lambda self: frozenset(self.parameters))

    losses, plain = AllOwn(), ToyLosses()
    assert Fixed().backward(losses).weights_K.tolist() == [1, 1, 1]
    build_balancer(UniformConfig(), TASKS, seed=0).backward(plain)
    for name, gradient in gradients(losses).items():
        torch.testing.assert_close(gradient, gradients(plain)[name], rtol=0, atol=1e-12)


def test_penalties_are_added_once_after_the_combination() -> None:
    bare, taxed = ToyLosses(), ToyLosses(decay=0.1)
    for losses in (bare, taxed):
        Fixed().backward(losses)
    for name, parameter in taxed.parameters.items():
        expected = gradients(bare)[name] + 0.2 * parameter.detach()
        torch.testing.assert_close(gradients(taxed)[name], expected, rtol=0, atol=1e-12)


def test_rows_are_averaged_over_ranks_before_they_are_combined() -> None:
    """A second rank without a gradient halves the mean; the product of three rows is then an eighth."""
    alone, halved = ToyLosses(decay=0.1), ToyLosses(decay=0.1, share=0.5)
    calls: list[int] = []
    average = halved.mean_over_ranks
    halved.mean_over_ranks = lambda tensors: calls.append(1) or average(tensors)  # type: ignore[method-assign]
    for losses in (alone, halved):
        Product().backward(losses)
    assert len(calls) == 1
    for name, parameter in alone.parameters.items():
        toll = 0.2 * parameter.detach()
        product = gradients(alone)[name] - toll
        expected = product / 8 + toll / 2 if name in SHARED else (product + toll) / 2
        torch.testing.assert_close(gradients(halved)[name], expected, rtol=0, atol=1e-12)


def test_what_the_last_step_left_in_memory_does_not_matter() -> None:
    balancer = Fixed()
    balancer.backward(ToyLosses(batch=1))
    kept, fresh = ToyLosses(batch=2), ToyLosses(batch=2)
    balancer.backward(kept)
    before = {name: gradient.clone() for name, gradient in gradients(kept).items()}
    balancer.backward(ToyLosses(batch=3))
    Fixed().backward(fresh)
    for name, gradient in gradients(kept).items():
        assert torch.equal(gradient, before[name])
        assert torch.equal(gradient, gradients(fresh)[name])


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_inner_products_of_rows_of_any_length(size: int) -> None:
    rows_TN = torch.randn(3, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(gramian(rows_TN), rows_TN @ rows_TN.T)


def test_a_loss_that_is_no_number_spoils_the_update_and_raises_nothing() -> None:
    losses = ToyLosses()
    losses.y_BK[0, 1] = torch.nan
    step = build_balancer(PcGradConfig(), TASKS, seed=0).backward(losses)
    assert step.losses.loss_K.isnan().tolist() == [False, True, False]
    assert gradients(losses)["shared.weight"].isnan().any()

"""Rows that are never written out combine as those that are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toy_losses import TASKS, ToyLosses

from mtlsearch.balancing import build_balancer
from mtlsearch.balancing.linear_rows import LinearRows, linear_rows
from mtlsearch.config import PcGradConfig

X_BI = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Alone(ToyLosses):
    """Of one rank, which says so."""

    def mean_over_ranks(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)


@pytest.mark.parametrize("absent", [(), (1,)])
def test_a_step_is_the_same(absent: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    written, factored = ToyLosses(absent=absent, decay=0.1), Alone(absent=absent, decay=0.1)
    expected = build_balancer(PcGradConfig(), TASKS, seed=0).backward(written)
    products: list[int] = []
    original = LinearRows.products
    monkeypatch.setattr(LinearRows, "saves", lambda self, num_tasks: True)
    monkeypatch.setattr(LinearRows, "products", lambda self: products.append(1) or original(self))
    step = build_balancer(PcGradConfig(), TASKS, seed=0).backward(factored)
    assert len(products) == 2  # `shared` and `last`
    torch.testing.assert_close(step.weights_K, expected.weights_K, rtol=0, atol=1e-12)
    for name, parameter in factored.parameters.items():
        assert parameter.grad is not None
        assert not parameter.grad.requires_grad
        torch.testing.assert_close(parameter.grad, written.parameters[name].grad, rtol=0, atol=1e-12)


def test_they_may_be_all_rows_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where biases are no parameters, no shared parameter is left whose rows are written out."""
    written, factored = ToyLosses(), Alone()
    for losses in (written, factored):
        for layer in (losses.network.shared, losses.network.last):
            bias = layer.bias.detach()
            del layer.bias
            layer.register_buffer("bias", bias)
    build_balancer(PcGradConfig(), TASKS, seed=0).backward(written)
    monkeypatch.setattr(LinearRows, "saves", lambda self, num_tasks: True)
    build_balancer(PcGradConfig(), TASKS, seed=0).backward(factored)
    for name, parameter in factored.parameters.items():
        torch.testing.assert_close(parameter.grad, written.parameters[name].grad, rtol=0, atol=1e-12)


def test_a_rank_among_others_writes_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinearRows, "saves", lambda self, num_tasks: True)
    monkeypatch.setattr(LinearRows, "products", lambda self: pytest.fail("not of the mean over ranks"))
    build_balancer(PcGradConfig(), TASKS, seed=0).backward(ToyLosses(share=0.5))


def test_products_and_combination_are_those_of_the_rows() -> None:
    weight, bias = (nn.Parameter(torch.randn(*shape, dtype=torch.float64)) for shape in ((2, 4, 9), (8,)))
    y_BM = torch.relu_(F.linear(X_BI, weight.flatten(0, 1), bias))
    loss_K = torch.stack([y_BM.square().sum(), y_BM[:, :3].sum(), y_BM[0].exp().sum()])
    (layer,) = linear_rows(loss_K, [weight, bias])
    assert layer.parameter is weight
    rows = []
    for loss in loss_K:
        row, delta_BM = torch.autograd.grad(loss, [weight, layer.edge], retain_graph=True)
        rows.append(row.flatten())
        layer.add(delta_BM)
    rows_TN, weights_T = torch.stack(rows), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(layer.products(), rows_TN @ rows_TN.T)
    torch.testing.assert_close(layer.combined(weights_T).flatten(), weights_T @ rows_TN)


@pytest.mark.parametrize(
    "use",
    [
        lambda w, b: F.linear(X_BI, w, b) + F.linear(2 * X_BI, w, b),  # used twice
        lambda w, b: F.linear(X_BI, w, b) + w.sum(),  # seen elsewhere too
        lambda w, b: F.linear(X_BI, w[:4], b[:4]),  # a part of it
        lambda w, b: F.linear(X_BI, 2 * w, b),  # not as it is
        lambda w, b: torch.addmm(b, X_BI, w.T, alpha=2),
        lambda w, b: F.linear(w, X_BI[:, :9], None) @ X_BI[:, :5],  # as the input of another
    ],
)
def test_other_uses_are_left_alone(use) -> None:  # type: ignore[no-untyped-def]
    w, b = nn.Parameter(torch.randn(5, 9, dtype=torch.float64)), nn.Parameter(torch.randn(5, dtype=torch.float64))
    assert linear_rows(use(w, b).square().sum(0), [w, b]) == []


def test_only_where_it_saves_work() -> None:
    """Not for two tasks, nor where the batch is longer than the input is wide."""
    for size, num_tasks, saves in ((256, 2, False), (256, 4, True), (256, 12, True), (1024, 12, False)):
        layer = linear_rows(
            F.linear(
                torch.randn(size, 500), weight := nn.Parameter(torch.randn(512, 500)), nn.Parameter(torch.randn(512))
            ).sum(0),
            [weight],
        )[0]
        assert layer.saves(num_tasks) is saves

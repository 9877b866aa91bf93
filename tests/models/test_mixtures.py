"""One task's mixture is its slice of all, and so are its gradients, however small the products are."""

from __future__ import annotations

import pytest
import torch

from mtlsearch.models.gates import SMALL_PRODUCT, mix, mix_one, with_contiguous_slopes


@pytest.mark.parametrize("hidden", [3, SMALL_PRODUCT])
def test_one_mixture_is_a_slice_of_all(hidden) -> None:
    draw = torch.Generator().manual_seed(0)
    gate_PKE = torch.rand(5, 3, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    f_EPH = torch.rand(4, 5, hidden, generator=draw, dtype=torch.float64, requires_grad=True)
    for task, expected_PH in enumerate(mix(gate_PKE, f_EPH)):
        found_PH = mix_one(gate_PKE[:, task : task + 1], f_EPH)
        torch.testing.assert_close(found_PH, expected_PH, rtol=0, atol=1e-14)
        slopes = [
            torch.autograd.grad(y.square().sum(), (gate_PKE, f_EPH), retain_graph=True) for y in (found_PH, expected_PH)
        ]
        torch.testing.assert_close(*slopes, rtol=0, atol=1e-12)


def test_first_and_second_slopes_are_contiguous() -> None:
    x_AB = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    slope_AB = torch.rand(3, 4, dtype=torch.float64, requires_grad=True).t()
    seen: list[torch.Tensor] = []
    slope_AB.register_hook(seen.append)
    (given_AB,) = torch.autograd.grad(with_contiguous_slopes(x_AB * 1), x_AB, slope_AB, create_graph=True)
    assert given_AB.is_contiguous()
    assert not slope_AB.is_contiguous()
    assert torch.equal(given_AB, slope_AB)
    second_AB = torch.rand(3, 4, dtype=torch.float64).t()
    given_AB.backward(second_AB)
    assert seen[0].is_contiguous()
    assert not second_AB.is_contiguous()
    assert torch.equal(seen[0], second_AB)

"""PCGrad: gradients that conflict are projected on each other's normal planes.

Yu et al., "Gradient Surgery for Multi-Task Learning", NeurIPS 2020, arXiv 2001.06782, algorithm 1: for each task i,
over the other tasks j in random order, g_i ← g_i − (g_i·g_j / ‖g_j‖²)·g_j where g_i·g_j < 0, g_j being the gradient as
it came; the update is Σ_i g_i.
Where we deviate: all of it is done on the rows' inner products, as every g_i stays a combination of the rows, so it
costs one product of weights and rows; the order is drawn from the method's own generator, alike on every rank; the
parameters of single tasks, of which no two tasks' gradients can conflict, are left out of the inner products.
K equal gradients do not conflict: the update is their sum.

Axes: T tasks present in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtlsearch.balancing.jacobian import GramianBalancer


class PcGrad(GramianBalancer):
    """Projects in an order of its own."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def weights(self, gramian_TT: Tensor) -> Tensor:
        return pcgrad_weights(gramian_TT, self._generator)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())


def pcgrad_weights(gramian_TT: Tensor, generator: torch.Generator) -> Tensor:
    """weights_T such that weights_T @ rows_TN is PCGrad's update.

    Plain numbers, since a tensor operation on T of them costs more than T of theirs.
    """
    products: list[list[float]] = gramian_TT.tolist()
    weights = [1.0] * len(products)
    for task, row in enumerate(products):
        with_others = list(row)  # g_i·g_j of the g_i so far
        for other in torch.randperm(len(products), generator=generator).tolist():
            if other != task and with_others[other] < 0:
                share = with_others[other] / products[other][other]
                weights[other] -= share
                with_others = [old - share * new for old, new in zip(with_others, products[other], strict=True)]
    return torch.tensor(weights, dtype=gramian_TT.dtype)

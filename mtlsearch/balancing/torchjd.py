"""The methods of the extra: inner products of gradients become weights, by TorchJD or by `solvers`; all else is ours.

- `cagrad`: Liu et al., "Conflict-Averse Gradient Descent", NeurIPS 2021, arXiv 2110.14048, algorithm 1.
- `mgda`: Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, arXiv 1810.04650,
  algorithm 2.
- `imtl_g`: Liu et al., "Towards Impartial Multi-task Learning", ICLR 2021, eq. 6.
- `nash_mtl`: Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, arXiv 2202.01017: G·α = 1/α.
- `aligned_mtl`: Senushkin et al., "Independent Component Alignment", CVPR 2023, arXiv 2305.19000, algorithm 1.
- `upgrad`: Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization", arXiv 2406.16232, section 2.
- `fairgrad`: Ban and Ji, "Fair Resource Allocation in Multi-Task Learning", ICML 2024, arXiv 2402.15638, eq. 4.
- `graddrop`: Chen et al., "Just Pick a Sign", NeurIPS 2020, arXiv 2010.06808, algorithm 1, lines 10 to 15.

TorchJD gives `cagrad`, `aligned_mtl` and `graddrop`. The others are solved here, since its solvers stop early or
stand still for what is far from equal lengths: MGDA's loop of 100 steps left vectors that oppose a task, IMTL-G's
pseudo-inverse took short gradients for zeros, the condition of FairGrad and Nash-MTL was unmet for a task whose
gradient is 1e-3 of the others', and what UPGrad adds to the diagonal left such a task in conflict.

Where we deviate:
- Inner products are divided by their mean diagonal first, as tolerances and FairGrad's condition are absolute. This
  changes no other direction.
- Scale: weights are multiplied so that K equal gradients give K times that gradient: by K where they have sum 1 then
  (all but the following), by K/(1+c) in CAGrad, by K^(α/(α+1)) in FairGrad and, α being 1, in Nash-MTL, whose updates
  would else be of one length however small the gradients; GradDrop is a sum already.
- Nash-MTL's condition is FairGrad's at α = 1, and is solved as such: to precision and with no state, where the paper's
  loop starts from the last step's solution and stops early. Where gradients oppose each other, so that no weights
  solve it, these are what solves it up to `solvers.ROUNDING`.
- MGDA is the shortest vector itself, which the paper's Frank-Wolfe loop approaches.
- IMTL-G's weights have sum 1 only where that turns no update round and makes none of any length
  (`solvers.equal_projections`); the direction is the paper's. Where what is equal on all gradients can only be 0, as of
  g, −g and g, the update is 0.
- CAGrad stands still once no combination is longer than `SHORT`, which it takes for a Pareto optimum.
- A task whose gradient is zero at the shared parameters takes no part: its weight is 0.
- GradDrop is applied to the parameters' gradients, not to those of the shared representation.

Axes: T tasks present in the batch, N shared parameters' entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, assert_never

import torch
from torch import Tensor

from mtlsearch.balancing import solvers
from mtlsearch.balancing.jacobian import GramianBalancer, JacobianBalancer
from mtlsearch.balancing.linear_rows import LinearRows
from mtlsearch.config import (
    AlignedMtlConfig,
    CaGradConfig,
    FairGradConfig,
    GradDropConfig,
    ImtlGConfig,
    MgdaConfig,
    NashMtlConfig,
    UpGradConfig,
)
from mtlsearch.config.balancing.gradient import TorchJdConfig, missing_extra
from mtlsearch.errors import ConfigError

WeighingConfig = (
    CaGradConfig | MgdaConfig | ImtlGConfig | NashMtlConfig | AlignedMtlConfig | UpGradConfig | FairGradConfig
)
Weighting = Callable[[Tensor], Tensor]

SHORT = 1e-8
"""Length, in that of all gradients together, below which CAGrad takes a combination for zero. With TorchJD's 1e-4 all
shared parameters stand still as soon as one task's gradient is that much shorter than the others'."""


class TorchJdWeighting(GramianBalancer):
    """One of the methods that weigh the rows by their inner products. None of them keeps state."""

    def __init__(self, config: WeighingConfig) -> None:
        self._config, self._weighting = config, weighting_of(config, aggregation(config))

    def weights(self, gramian_TT: Tensor) -> Tensor:
        squares_T = gramian_TT.diagonal()
        weights_T = (squares_T > 0).to(gramian_TT)
        some = weights_T.nonzero()[:, 0]
        if len(some) > 1 and bool(gramian_TT.isfinite().all()):
            relative = gramian_TT[some][:, some] / squares_T[some].mean()
            weights_T[some] = scale_of(self._config, len(some)) * self._weighting(relative)
        return weights_T


class GradDrop(JacobianBalancer):
    """Each position of the gradient follows one sign. It draws as TorchJD does, from the global generator, whose state
    is put aside, and which starts from a number of the method's own."""

    def __init__(self, config: GradDropConfig, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._aggregator: Weighting = aggregation(config).GradDrop()

    def combine(self, rows_TN: Tensor, layers: Sequence[LinearRows] = ()) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(2**62, (), generator=self._generator))
        devices = [rows_TN.device] if rows_TN.is_cuda else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return self._aggregator(rows_TN), rows_TN.new_ones(len(rows_TN))

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())


def weighting_of(config: WeighingConfig, library: ModuleType) -> Weighting:
    """Inner products to weights, up to scale."""
    found: Weighting
    match config:
        case CaGradConfig():
            found = library.CAGradWeighting(c=config.c, norm_eps=SHORT)
        case AlignedMtlConfig():
            found = library.AlignedMTLWeighting()
        case MgdaConfig():
            found = solved(solvers.shortest_in_hull)
        case ImtlGConfig():
            found = solved(solvers.equal_projections)
        case NashMtlConfig():
            found = solved(partial(solvers.fair, alpha=1.0))
        case UpGradConfig():
            found = solved(solvers.without_conflict)
        case FairGradConfig():
            found = solved(partial(solvers.fair, alpha=config.alpha))
        case _:
            assert_never(config)
    return found


def solved(solver: Callable[[solvers.Array], solvers.Array]) -> Weighting:
    """A solver of arrays on tensors."""
    return lambda gramian_TT: torch.from_numpy(solver(gramian_TT.numpy()))


def scale_of(config: WeighingConfig, num_rows: int) -> float:
    """What makes equal gradients give their sum."""
    match config:
        case CaGradConfig():
            return num_rows / (1 + config.c)
        case NashMtlConfig():
            return float(num_rows**0.5)
        case FairGradConfig():
            return float(num_rows ** (config.alpha / (config.alpha + 1)))
        case _:
            return float(num_rows)


def aggregation(config: TorchJdConfig) -> ModuleType:
    """TorchJD's methods; imported when one is built, as it is an extra.

    Raises:
        ConfigError: it is not installed, or broken.
    """
    if (missing := missing_extra(config)) is not None:
        raise ConfigError(missing)
    return import_module("torchjd.aggregation")

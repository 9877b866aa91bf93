"""Deep relationship networks: a tensor-normal prior over all tasks' towers, whose covariances are learnt.

Long et al., "Learning Multiple Tasks with Multilinear Relationship Networks", NIPS 2017, arXiv 1506.02117. The weights
W [K, I, H] of a tower layer, over tasks, inputs and outputs, cost ½·vec(W)ᵀ (S₁ ⊗ S₂ ⊗ S₃)⁻¹ vec(W). By turns (the
flip-flop algorithm) S₁ = W₍₁₎ (S₂ ⊗ S₃)⁻¹ W₍₁₎ᵀ / (I·H), likewise S₂, S₃; between updates they are constants. All start
at the identity, where the cost is an L2 penalty. S₁ tells which tasks' towers are alike (+) and which opposite (−).
Where we deviate: one round of updates every few epochs. Each S keeps the trace of an identity: between S₁, S₂ and S₃
scale cannot be told apart, and learnt as a whole it drove towers to zero (the less they weigh, the tighter they are
held), or with plain SGD to infinity; `strength` stands for it. Each S is shrunk towards the identity, more than the
paper's ε does: one tensor says too little of an I x I matrix. The log-determinants, constant in W, are left out.
The authors' code updates S₁ alone, for the last layer alone; here all three, for every layer that tasks can compare.
The paper's towers start from the same pretrained weights, ours from independent ones.

Axes: K tasks, I inputs, H outputs of a tower layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mtlsearch.config import DeepRelationConfig
from mtlsearch.models.base import Epoch, EpochAware

SHRINKAGE = 0.1
"""Share of the identity in each covariance: what holds weights tightest is then at most a thousand times the mean.
With .01, SGD at a rate of .05 diverged at a strength of .1, with .001 at one of .01 (three tasks, towers 64-32-1)."""


class TowerRelation(nn.Module, EpochAware):
    """A prior for each layer.

    Args:
        weights: gives the layers' weights, [K, I, H] each. It is asked anew every time: `functional_call` puts others
            in their place. A model's bound method, which a copy of the model takes along.
    """

    def __init__(self, config: DeepRelationConfig, weights: Callable[[], Sequence[Tensor]]) -> None:
        super().__init__()
        self.strength, self.period, self._weights = config.strength, config.period, weights
        self.priors = nn.ModuleList(TensorNormal(weight_KIH.shape) for weight_KIH in weights())

    def forward(self) -> Tensor:
        """The cost of the weights, a scalar, times the strength."""
        weights = self._weights()
        with torch.autocast(weights[0].device.type, enabled=False):
            costs = [prior(weight_KIH) for prior, weight_KIH in zip(self.priors, weights, strict=True)]
        return self.strength * torch.stack(costs).sum()

    def begin_epoch(self, epoch: Epoch) -> None:
        """Fits the priors to the weights of now, every `period` epochs; not before the first."""
        if epoch.number > 1 and (epoch.number - 1) % self.period == 0:
            for prior, weight_KIH in zip(self.priors, self._weights(), strict=True):
                assert isinstance(prior, TensorNormal)
                prior.fit(weight_KIH.detach())


class TensorNormal(nn.Module):
    """A normal density over tensors, whose covariance is S₁ ⊗ S₂ ⊗ S₃. Kept are the inverses."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        for mode, size in enumerate(shape, 1):
            self.register_buffer(f"precision_{mode}", torch.eye(size))

    @property
    def precisions(self) -> list[Tensor]:
        """S₁⁻¹ [K, K], S₂⁻¹ [I, I], S₃⁻¹ [H, H]."""
        return list(self.buffers())

    def forward(self, w_KIH: Tensor) -> Tensor:
        """½·vec(W)ᵀ (S₁ ⊗ S₂ ⊗ S₃)⁻¹ vec(W), mode by mode."""
        scaled_KIH = w_KIH
        for mode, precision in enumerate(self.precisions):
            scaled_KIH = mode_product(precision, scaled_KIH, mode)
        return 0.5 * (scaled_KIH * w_KIH).sum()

    def fit(self, w_KIH: Tensor) -> None:
        """One round: each covariance given the others, tasks first. (Inputs first, they explained what tasks share.)"""
        w_KIH = w_KIH.double()
        for mode, precision in enumerate(self.precisions):
            scaled_KIH = w_KIH
            for other, known in enumerate(self.precisions):
                if other != mode:
                    scaled_KIH = mode_product(known.double(), scaled_KIH, other)
            scatter = unfolded(w_KIH, mode) @ unfolded(scaled_KIH, mode).T
            precision.copy_(inverse(shrunk(scatter)))


def mode_product(matrix: Tensor, w_KIH: Tensor, mode: int) -> Tensor:
    """The matrix times each of the tensor's columns along the mode."""
    product: Tensor = torch.tensordot(matrix, w_KIH, dims=([1], [mode]))
    return product.movedim(0, mode)


def unfolded(w_KIH: Tensor, mode: int) -> Tensor:
    """The mode's axis first, the others one after another in the second."""
    return w_KIH.movedim(mode, 0).flatten(1)


def shrunk(scatter: Tensor) -> Tensor:
    """Scaled to the trace of an identity, then mixed with one, which it is where nothing is scattered."""
    identity = torch.eye(len(scatter), dtype=scatter.dtype, device=scatter.device)
    scatter = scatter + torch.finfo(scatter.dtype).tiny * identity
    return torch.lerp(scatter / scatter.diagonal().mean(), identity, SHRINKAGE)


def inverse(covariance: Tensor) -> Tensor:
    """Of a symmetric positive definite matrix. Of weights that have exploded it is no number, and the loss says so."""
    root, _ = torch.linalg.cholesky_ex(covariance)
    return torch.cholesky_inverse(root)

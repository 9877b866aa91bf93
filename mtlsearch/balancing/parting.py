"""Where the backward pass of one task to the shared parameters starts.

Towers of all tasks are computed side by side, so a task's backward pass through them costs as much as that of all. But
where each reads a slice of its own, the gradient of the sum of the losses has every task's gradient there: one pass
through the towers, then one a task from there on.

Axes: K tasks, P predictions, H units of the representation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtlsearch.balancing.base import Losses

Place = Tensor | GradientEdge


class TaskStarts:
    """Of all tasks of a batch.

    Args:
        own: parameters that belong to single tasks.
        twice: whether the gradients have gradients.
    """

    def __init__(self, losses: Losses, own: Sequence[Tensor] = (), *, twice: bool = False) -> None:
        self._losses, self._twice = losses, twice
        parting = [] if losses.parting_KPH is None else [losses.parting_KPH]
        found = gradient_of(losses.loss_K.sum(), [*own, *parting], twice=twice)
        self.own = found[: len(own)]
        """Gradients of the sum of the losses."""
        self._slope_KPH = found[-1] if parting else None

    def gradient(self, task: int, places: Sequence[Place]) -> tuple[Tensor | None, ...]:
        """Of its loss at places before the towers; None where it does not depend on one. The graph stays."""
        if not places:
            return ()
        start, slope = self._losses.loss_K[task], None
        if self._slope_KPH is not None:
            assert self._losses.parting_KPH is not None
            start, slope = self._losses.parting_KPH, torch.zeros_like(self._slope_KPH)
            slope[task] = self._slope_KPH[task]
        return torch.autograd.grad(
            start,
            places,  # type: ignore[arg-type]  # tensors and edges may be mixed
            slope,
            retain_graph=True,
            create_graph=self._twice,
            allow_unused=True,
        )


def gradient_of(loss: Tensor, places: Sequence[Tensor], *, twice: bool = False) -> tuple[Tensor, ...]:
    """Zeros where the loss does not depend on a place; the graph stays for the next one's."""
    if not places:
        return ()
    return torch.autograd.grad(
        loss, places, retain_graph=True, create_graph=twice, allow_unused=True, materialize_grads=True
    )

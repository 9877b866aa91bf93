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

from mtlsearch.balancing.base import Losses


class TaskStarts:
    """Of all tasks of a batch.

    Args:
        own: parameters that belong to single tasks.
    """

    def __init__(self, losses: Losses, own: Sequence[Tensor] = ()) -> None:
        self._losses, self._slope_KPH = losses, None
        parting = [] if losses.parting_KPH is None else [losses.parting_KPH]
        found = gradient_of(losses.loss_K.sum(), [*own, *parting])
        self.own = found[: len(own)]
        """Gradients of the sum of the losses."""
        if parting:
            self._slope_KPH = found[-1]

    def gradient(self, task: int, places: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        """Of its loss at places before the towers; None where it does not depend on one. The graph stays."""
        if self._slope_KPH is None:
            return torch.autograd.grad(self._losses.loss_K[task], places, retain_graph=True, allow_unused=True)
        assert self._losses.parting_KPH is not None
        slope_KPH = torch.zeros_like(self._slope_KPH)
        slope_KPH[task] = self._slope_KPH[task]
        return torch.autograd.grad(self._losses.parting_KPH, places, slope_KPH, retain_graph=True, allow_unused=True)


def gradient_of(loss: Tensor, places: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Zeros where the loss does not depend on a place; the graph stays for the next one's."""
    if not places:
        return ()
    return torch.autograd.grad(loss, places, retain_graph=True, allow_unused=True, materialize_grads=True)

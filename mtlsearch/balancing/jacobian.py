"""What methods share that combine the tasks' gradients: the Jacobian of the task losses at the shared parameters.

Parameters that belong to single tasks get their own task's gradient as it is; the shared ones get the method's
combination of the rows. A task without a label in the batch has no row. Rows are averaged over ranks before anything
is made of them: the mean of the ranks' Gramians is not the Gramian of the mean. The model's own penalties are no task:
their gradient is added once.

Where a method has nothing to combine (no shared parameters, one task present) the gradient is that of the plain sum.
Every method is scaled so that K equal gradients give K times that gradient, as the plain sum does: learning rates mean
the same for all.

Axes: T tasks present in the batch, K tasks, N shared parameters' entries.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlsearch.balancing.base import BalancedStep, Balancer, Losses, TaskLosses
from mtlsearch.balancing.linear_rows import LinearRows, linear_rows
from mtlsearch.balancing.parting import TaskStarts, gradient_of


class JacobianBalancer(Balancer):
    """One forward pass, a backward pass a task down to the shared parameters, one more for all else."""

    _rows_TN: Tensor | None = None  # kept from step to step: fresh memory costs more than the numbers put into it

    def backward(self, losses: TaskLosses) -> BalancedStep:
        found = losses.at(losses.parameters)
        present = found.present_K.nonzero()[:, 0].tolist()
        own = [p for name, p in losses.parameters.items() if name in losses.own_names]
        shared = [p for name, p in losses.parameters.items() if name not in losses.own_names]
        if len(present) > 1 and shared:
            weights_T = self._balanced(losses, found, present, (shared, own))
        else:
            weights_T = torch.ones(len(present), dtype=found.loss_K.dtype)
            everything = [*shared, *own]
            give(everything, losses.mean_over_ranks(gradient_of(found.loss_K.sum() + found.penalty, everything)))
        weights_K = torch.zeros_like(found.loss_K)
        weights_K[found.present_K] = weights_T.to(weights_K)
        return BalancedStep(found.detached(), weights_K)

    @abstractmethod
    def combine(self, rows_TN: Tensor, layers: Sequence[LinearRows] = ()) -> tuple[Tensor, Tensor]:
        """The shared parameters' gradient [N] and the weights [T] that the record shows.

        Args:
            rows_TN: averaged over ranks, and with them the same on all of them.
            layers: more of the rows, at other parameters, whose combination by the weights is taken later.
        """

    def layers(self, losses: TaskLosses, found: Losses, shared: Sequence[nn.Parameter]) -> list[LinearRows]:
        """Parameters whose rows need not be written out."""
        return []

    def _balanced(
        self,
        losses: TaskLosses,
        found: Losses,
        present: Sequence[int],
        parameters: tuple[Sequence[nn.Parameter], Sequence[nn.Parameter]],
    ) -> Tensor:
        shared, own = parameters
        layers = self.layers(losses, found, shared)
        factored = {layer.parameter for layer in layers}
        shared = [p for p in shared if p not in factored]
        starts = TaskStarts(found, own)
        rows_TN = self._rows(starts, present, shared, layers)
        shared = [*shared, *(layer.parameter for layer in layers)]
        tolls = gradient_of(found.penalty, [*shared, *own]) if found.penalties else ()
        rows_TN, *others = losses.mean_over_ranks([rows_TN, *starts.own, *tolls])
        vector_N, weights_T = self.combine(rows_TN, layers)
        pieces = torch.split(vector_N, [p.numel() for p in shared[: len(shared) - len(layers)]])
        gradients = [piece.view_as(p) for piece, p in zip(pieces, shared, strict=False)]
        gradients += [layer.combined(weights_T) for layer in layers]
        gradients += others[: len(own)]
        if tolls:
            torch._foreach_add_(gradients, others[len(own) :])
        give([*shared, *own], gradients)
        return weights_T

    def _rows(
        self, starts: TaskStarts, present: Sequence[int], shared: Sequence[nn.Parameter], layers: Sequence[LinearRows]
    ) -> Tensor:
        """rows_TN at these parameters; the layers get what is theirs."""
        shape = (len(present), sum(p.numel() for p in shared))
        rows_TN = self._rows_TN
        somewhere, *_ = (*shared, *(layer.parameter for layer in layers))
        if rows_TN is None or rows_TN.shape != shape or rows_TN.device != somewhere.device:
            self._rows_TN = rows_TN = somewhere.new_empty(shape, requires_grad=False)
        places: list[Any] = [*shared, *(layer.edge for layer in layers)]
        for row_N, task in zip(rows_TN, present, strict=True):
            found = starts.gradient(task, places)
            pieces = [torch.zeros_like(p) if g is None else g for g, p in zip(found, shared, strict=False)]
            if pieces:  # else the layers have all of it
                torch.cat([piece.flatten() for piece in pieces], out=row_N)
            for layer, delta_BM in zip(layers, found[len(shared) :], strict=True):
                layer.add(delta_BM)
        return rows_TN


class GramianBalancer(JacobianBalancer):
    """A method that weighs the rows by nothing but their inner products."""

    _is_alone: bool | None = None

    def layers(self, losses: TaskLosses, found: Losses, shared: Sequence[nn.Parameter]) -> list[LinearRows]:
        """Where that saves work, on one rank."""
        num_tasks = int(found.present_K.sum())
        layers = [] if self._is_alone is False else linear_rows(found.loss_K, shared)
        layers = [layer for layer in layers if layer.saves(num_tasks)]
        if layers and self._is_alone is None:
            probe = found.loss_K.detach()
            self._is_alone = losses.mean_over_ranks([probe])[0] is probe
        return layers if self._is_alone else []

    def combine(self, rows_TN: Tensor, layers: Sequence[LinearRows] = ()) -> tuple[Tensor, Tensor]:
        gramian_TT = sum((layer.products() for layer in layers), gramian(rows_TN))
        weights_T = self.weights(gramian_TT.double().cpu()).to(rows_TN)
        return weights_T @ rows_TN, weights_T

    @abstractmethod
    def weights(self, gramian_TT: Tensor) -> Tensor:
        """weights_T of the rows that have these inner products: float64, on the CPU as solvers of so few numbers are.

        A gradient that is not finite makes the Gramian so; the weights may then be anything but an error: the update
        is spoilt, and training reports the task whose loss is.
        """


CHUNK = 8192
"""Entries of a row that are multiplied at once, so that all rows' share of the cache is enough."""


def gramian(rows_TN: Tensor) -> Tensor:
    """Inner products [T, T] of the rows."""
    num_rows, num_entries = rows_TN.shape
    rest = num_entries % CHUNK
    chunks_CTN = rows_TN[:, : num_entries - rest].view(num_rows, num_entries // CHUNK, CHUNK).transpose(0, 1)
    rest_TN = rows_TN[:, num_entries - rest :]
    return (chunks_CTN @ chunks_CTN.mT).sum(0) + rest_TN @ rest_TN.T


def give(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
    """Fills `.grad`."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()

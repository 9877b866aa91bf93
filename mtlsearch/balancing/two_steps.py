"""What MAML-MTL and the method of Lee and Son have in common: a temporary step a task, and the gradient behind it.

For each task with a label in the batch, θ_k = θ - η ∇L_k(θ; inner) on the parameters that are stepped, `num_steps`
times; then the gradient of Σ_k L_k(θ_k; outer) with respect to these. The other parameters get Σ_k ∇L_k(θ; inner).
All K inner gradients come from one forward pass; behind the step only what task k needs is computed. A task without a
label in the inner part takes no part in the step; one without a label in the outer part adds nothing there.

Of a parameter that belongs to single tasks, each entry is in one L_k alone: the step on Σ_k L_k is every task's own,
one tensor for all of them.

Axes: K tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtlsearch.balancing.base import Losses, TaskLosses
from mtlsearch.balancing.data_products import FindProducts, Product, Readings, Stepped
from mtlsearch.balancing.parting import Place, TaskStarts

Gradient = dict[str, Tensor]
"""By the parameter's name; without those that nothing depends on."""


Key = TypeVar("Key")


class Point(NamedTuple):
    """What is one task's alone of θ_k."""

    task: int
    shared: dict[str, Tensor]
    """Shared parameters behind the step."""
    d: dict[str, Tensor]
    """Of the weights whose step is not written out: D_BM."""


class Stage(NamedTuple):
    """After inner steps."""

    losses: Losses
    """At θ, on the inner part."""
    start: dict[str, Tensor]
    """All of θ; the gradient is with respect to those that are stepped. Of order 1 a graph of its own begins here."""
    own: dict[str, Tensor]
    """Of the parameters that are stepped, those of single tasks, behind their steps."""
    points: list[Point]
    apart: Gradient
    """Of the parameters that are not stepped."""
    products: Mapping[str, Product]


@dataclass(frozen=True)
class TwoSteps:
    """The rules of the temporary step.

    Args:
        order: 1 takes the inner gradient as a constant.
    """

    lr: float
    order: Literal[1, 2]
    num_steps: int = 1

    def backward(self, losses: TaskLosses, names: Sequence[str]) -> Losses:
        """Fills `.grad` of all parameters; `names` are stepped. The losses at θ on the inner part, with their graph."""
        theta = losses.parameters
        stage = self._first(losses, names)
        for _ in range(self.num_steps - 1):
            stage = self._again(losses, stage)
        outer = self._second_order if self.order == 2 else self._first_order
        gradient = added(outer(losses, stage, names), stage.apart)
        if stage.losses.penalties:
            gradient = added(gradient, gradient_of(stage.losses.penalty, theta))
        found = [gradient[name] if name in gradient else torch.zeros_like(p) for name, p in theta.items()]
        for parameter, mean in zip(theta.values(), losses.mean_over_ranks(found), strict=True):
            parameter.grad = mean.contiguous()
        return stage.losses

    def _first(self, losses: TaskLosses, names: Sequence[str]) -> Stage:
        """Every task's inner gradients, from one forward pass."""
        theta, own = losses.parameters, losses.own_names
        candidates = {n: theta[n] for n in names if n not in own} if self.num_steps == 1 and is_alone(losses) else {}
        with FindProducts(candidates, losses.num_tasks) as finder:
            first = losses.at(theta, "inner")
        products = finder.products
        edges = {n: p.edge for n, p in products.items()}
        not_written_out = {name for p in products.values() for name in p.names}
        shared = {n: theta[n] for n in names if n not in own and n not in not_written_out}
        stepped = set(names)
        others = {n: p for n, p in theta.items() if n in own or n not in stepped}
        starts = TaskStarts(first, tuple(others.values()), twice=self.order == 2)
        at_once = dict(zip(others, starts.own, strict=True))
        tasks = [task for task, present in enumerate(first.present_K.tolist()) if present]
        places: dict[str, Place] = {**shared, **edges}
        slopes = [found_at(places, starts.gradient(task, tuple(places.values()))) for task in tasks]
        start: dict[str, Tensor] = dict(theta)
        if self.order == 1:
            start = {n: p.detach().requires_grad_(n in stepped) for n, p in theta.items()}
        apart = {n: g.detach() for n, g in at_once.items() if n not in stepped}
        moves = [{n: g for n, g in at_once.items() if n in stepped}]
        moves += [{n: g for n, g in found.items() if n in shared} for found in slopes]
        own_move, *shared_moves = means(losses, moves)
        points = [
            Point(task, self._moved(start, move), {n: found[n] for n in edges if n in found})
            for task, move, found in zip(tasks, shared_moves, slopes, strict=True)
        ]
        return Stage(first, start, self._moved(start, own_move), points, apart, products)

    def _again(self, losses: TaskLosses, stage: Stage) -> Stage:
        """One more inner step of every task."""
        own_move, moves = Gradient(), list[Gradient]()
        for point in stage.points:
            loss = losses.of_task(point.task, {**stage.start, **stage.own, **point.shared}, "inner")
            found = self._slopes(loss, {**stage.own, **point.shared})
            own_move = added(own_move, {n: g for n, g in found.items() if n in stage.own})
            moves.append({n: g for n, g in found.items() if n in point.shared})
        own_move, *moves = means(losses, [own_move, *moves])
        points = [
            point._replace(shared=point.shared | self._moved(point.shared, move))
            for point, move in zip(stage.points, moves, strict=True)
        ]
        return stage._replace(own=stage.own | self._moved(stage.own, own_move), points=points)

    def _slopes(self, loss: Tensor, at: Mapping[Key, Tensor | GradientEdge]) -> dict[Key, Tensor]:
        return gradient_of(loss, at, create_graph=self.order == 2)

    def _moved(self, start: Mapping[str, Tensor], move: Gradient) -> dict[str, Tensor]:
        """start - η·move, of those that move."""
        return {n: start[n].sub(g, alpha=self.lr) for n, g in move.items()}

    def _outer(self, losses: TaskLosses, stage: Stage, point: Point, readings: Readings) -> Tensor:
        """L_k(θ_k; outer)."""
        at = {**stage.start, **stage.own, **point.shared}
        with Stepped(at, readings, point.d, self.lr):
            return losses.of_task(point.task, at, "outer")

    def _second_order(self, losses: TaskLosses, stage: Stage, names: Sequence[str]) -> Gradient:
        """All tasks at once: they share the graph of the first inner step."""
        readings = Readings(stage.products, is_constant=False)
        outer = [self._outer(losses, stage, point, readings) for point in stage.points]
        return gradient_of(torch.stack(outer).sum(), {n: stage.start[n] for n in names}) if outer else {}

    def _first_order(self, losses: TaskLosses, stage: Stage, names: Sequence[str]) -> Gradient:
        """One graph in memory at a time."""
        readings = Readings(stage.products, is_constant=True)
        if not names:
            return {}
        for point in stage.points:
            loss = self._outer(losses, stage, point, readings)
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
        found = {n: p.grad for n, p in stage.start.items() if p.grad is not None}
        return added(found, readings.gradients(losses.parameters))


def gradient_of(
    loss: Tensor, at: Mapping[Key, Tensor | GradientEdge], *, create_graph: bool = False
) -> dict[Key, Tensor]:
    """Of those that the loss depends on; the graph stays, other tasks' losses share it."""
    if not at or not loss.requires_grad:
        return {}
    found = torch.autograd.grad(
        loss,
        tuple(at.values()),  # type: ignore[arg-type]  # tensors and edges may be mixed
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
    )
    return found_at(at, found)


def found_at(places: Iterable[Key], gradients: Iterable[Tensor | None]) -> dict[Key, Tensor]:
    """By name; without those that nothing depends on."""
    return {name: gradient for name, gradient in zip(places, gradients, strict=True) if gradient is not None}


def added(total: Gradient, more: Gradient) -> Gradient:
    """Their sum."""
    return total | {n: total[n] + g if n in total else g for n, g in more.items()}


def means(losses: TaskLosses, gradients: Sequence[Gradient]) -> list[Gradient]:
    """Over the ranks, of all at once."""
    flat = iter(losses.mean_over_ranks([g for each in gradients for g in each.values()]) if any(gradients) else ())
    return [{name: next(flat) for name in each} for each in gradients]


def is_alone(losses: TaskLosses) -> bool:
    """Whether this is the one rank, on which the mean over ranks gives the same tensors."""
    probe = next(iter(losses.parameters.values())).new_zeros(())
    return losses.mean_over_ranks([probe])[0] is probe

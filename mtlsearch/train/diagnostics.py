"""What a model is, and how it looks inside: its size, its work, and of a mixture who uses which expert.

Axes: P predictions, K tasks, E experts, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from mtlsearch.models import Inputs, InputSpec, Mixture, MultiTaskModel
from mtlsearch.models import diversity as of_experts
from mtlsearch.models.inputs import StepInputs
from mtlsearch.records import MixtureMetrics, ModelRecord
from mtlsearch.train.chunks import split
from mtlsearch.train.distributed import World
from mtlsearch.train.tensors import TensorData

SAMPLE = 1024
"""Rows of the validation split, and predictions of each of its batches, that the experts are looked at on."""


class Diagnostics:
    """Of one model, on a sample of validation that is the same after each epoch."""

    def __init__(self, model: MultiTaskModel, data: TensorData, world: World) -> None:
        self._model, self._data, self._world = model, data, world

    @torch.no_grad()
    def after(self, epoch: int) -> tuple[MixtureMetrics | None, ModelRecord]:
        """Of the model as it is now; None where it is no mixture."""
        record = ModelRecord(num_parameters=self._model.num_parameters, multiply_adds=self._multiply_adds, epoch=epoch)
        mixture = self._mixture()
        if mixture is None:
            return None, record
        distance_EE, share_KE = of_experts.distances(mixture.f_EPH), of_experts.utilization(mixture.gate_PKE)
        with_diagonal, without = of_experts.diversity(distance_EE)
        metrics = MixtureMetrics(
            diversity=with_diagonal,
            diversity_off_diagonal=without,
            gate_entropy=self._by_task(of_experts.entropy(share_KE)),
            dead_experts=of_experts.num_dead(share_KE),
        )
        open_KE = getattr(self._model, "open_KE", None)
        return metrics, record.model_copy(
            update={
                "open_experts": None if open_KE is None else self._by_task(open_KE),
                "gate_utilization": self._by_task(share_KE),
                "expert_distance": tuple(tuple(map(short, row)) for row in distance_EE.tolist()),
            }
        )

    def _by_task(self, values: Tensor) -> dict[str, Any]:
        rows = (tuple(map(short, row)) if isinstance(row, list) else row for row in values.tolist())
        return {task.name: row for task, row in zip(self._data.tasks, rows, strict=True)}

    def _mixture(self) -> Mixture | None:
        """On the whole sample."""
        if type(self._model).mixture is MultiTaskModel.mixture:  # then there is nothing to look at
            return None
        was_training = self._model.training
        self._model.eval()
        batches = (fewer_predictions(inputs) for inputs in self._sample())
        found = [self._model.mixture(inputs) for batch in batches for inputs in split(batch, self._world.chunks)]
        self._model.train(was_training)
        gates, experts = zip(*(mixture for mixture in found if mixture is not None), strict=True)
        return Mixture(torch.cat(gates).float(), torch.cat(experts, dim=1).float())

    def _sample(self) -> Iterator[Inputs]:
        """Of a table its first validation rows; of sequences, in the order of their lengths, every so-manieth."""
        share = World(0, max(1, math.ceil(self._data.num_rows("validation") / SAMPLE)), self._world.device)
        with closing(self._data.ordered("validation", SAMPLE, share)) as batches:
            for batch in batches:
                yield batch.inputs

    @cached_property
    def _multiply_adds(self) -> int:
        lengths = [inputs.steps.length_B for inputs in self._sample() if inputs.steps is not None]
        mean_steps = float(torch.cat(lengths).double().mean()) if lengths else None
        return multiply_adds(self._model, self._data.input_spec, mean_steps)


def short(value: float) -> float:
    """Six digits: of 256 experts there are 65,536 distances."""
    return value if isinstance(value, bool) else round(value, 6)


def fewer_predictions(inputs: Inputs) -> Inputs:
    """At most SAMPLE of a batch of sequences' predictions, evenly spread."""
    if inputs.steps is None:
        return inputs
    every = math.ceil(len(inputs.steps.position_P) / SAMPLE)
    return inputs._replace(steps=inputs.steps._replace(position_P=inputs.steps.position_P[::every]))


def multiply_adds(model: MultiTaskModel, spec: InputSpec, num_steps: float | None) -> int:
    """Of a forward pass of one row: matrix products, convolutions and attention, as torch's own counter knows them.

    Args:
        num_steps: of a sequence; outputs are wanted at each of them if a task has labels there, else at the last.
    """
    if num_steps is None:
        return count(model, one_row(spec, None))
    # What a step does is linear in the number of steps, what attention does is quadratic: three short sequences tell
    # the count of any, where counting a recurrent network's steps one by one would take a second.
    per_step = any(task.per_step for task in model.tasks)
    one, two, three = (count(model, one_row(spec, steps, per_step=per_step)) for steps in (1, 2, 3))
    rest = num_steps - 1
    return round(one + rest * (two - one) + rest * (rest - 1) / 2 * (three - 2 * two + one))


def count(model: MultiTaskModel, inputs: Inputs) -> int:
    """Multiply-adds of a forward pass, counted by shapes alone, on tensors without content."""
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    was_training = model.training
    model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(model, shapes, (inputs,))
    model.train(was_training)
    return int(counter.get_total_flops()) // 2


def one_row(spec: InputSpec, num_steps: int | None, *, per_step: bool = False) -> Inputs:
    """A row's, or a sequence's, shapes."""
    floats, indices = partial(torch.empty, device="meta"), partial(torch.empty, dtype=torch.int64, device="meta")
    row = Inputs(floats(1, spec.num_numeric), indices(1, len(spec.cardinalities)))
    if num_steps is None:
        return row
    numeric_BTS = floats(1, num_steps, spec.num_step_numeric)
    categorical_BTD = indices(1, num_steps, len(spec.step_cardinalities))
    position_P = indices(num_steps if per_step else 1)
    return row._replace(steps=StepInputs(numeric_BTS, categorical_BTD, indices(1), position_P))

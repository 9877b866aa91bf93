"""A batch in chunks gives every balancing method, on every architecture, the step of the whole batch, with less memory.

Models are in float64, their losses in float32 as training has them.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any, get_args

import pytest
import torch
from conftest_train import learnable, learnable_sequences
from torch import Tensor
from toy_balancing import BALANCING, for_tasks
from toy_models import ARCHITECTURES, small

from mtlsearch.balancing import build_balancer
from mtlsearch.config import (
    AdaShareConfig,
    Architecture,
    BalancingConfig,
    DeepRelationConfig,
    ExpertConfig,
    MamlMtlConfig,
    ManMoeConfig,
    MMoEConfig,
    MMoEExConfig,
    PcGradConfig,
    SharedBottomConfig,
    UniformConfig,
)
from mtlsearch.config.model.experts import DenseConfig, GruConfig, TransformerConfig
from mtlsearch.models import Epoch, begin_epoch, build_model
from mtlsearch.train import World
from mtlsearch.train.batch import Batch
from mtlsearch.train.chunks import split, twice_differentiable
from mtlsearch.train.diagnostics import Diagnostics
from mtlsearch.train.evaluate import predict
from mtlsearch.train.losses import BatchLosses, LossTable
from mtlsearch.train.step import train_step

SIZE = 50
"""Rows of a batch; three do not divide them."""
STEPS = 3
SLOW = pytest.mark.slow
PENALISED = SharedBottomConfig(hidden=8, regularizer=DeepRelationConfig(strength=0.01))
EXPERTS = get_args(get_args(ExpertConfig)[0])
OTHERS = [(small(kind), data) for kind in ARCHITECTURES for data in ("table", "sequences")]
OTHERS += [(MMoEConfig(hidden=8, expert=expert()), "sequences") for expert in EXPERTS]


def named(model: Architecture, data: str) -> str:
    return f"{model.kind} {getattr(getattr(model, 'expert', None), 'kind', '')} {data}"


def serves(model: Architecture, data: str) -> bool:
    return data == "sequences" or not (model.needs_steps or getattr(model, "reads_steps", False))


def each(models: Any, *marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(m, d, id=named(m, d), marks=marks) for m, d in models if serves(m, d)]


ALL_METHODS = each([(small(MMoEExConfig), "table")])
ALL_METHODS += each(
    [
        (MMoEConfig(hidden=8, expert=GruConfig()), "sequences"),
        (small(MMoEConfig), "table"),
        (small(ManMoeConfig), "table"),
        (small(ManMoeConfig), "sequences"),
        (small(AdaShareConfig), "table"),
        (PENALISED, "table"),
    ],
    SLOW,
)


def steps(model: Architecture, data: str, balancing: BalancingConfig, chunks: int, **changes: Any) -> Tensor:
    """All parameters after three steps, with as large gradients as they come."""
    changed = {"dropout": 0.0, **changes}
    fields = {name: value for name, value in changed.items() if name in type(model).model_fields}
    rows = learnable() if data == "table" else learnable_sequences()
    built = build_model(model.model_copy(update=fields), rows.input_spec, rows.tasks, seed=0).double()
    begin_epoch(built, Epoch(1, 1, seed=0))
    balancer = build_balancer(for_tasks(balancing, rows.tasks), rows.tasks, seed=0)
    optimizer = torch.optim.SGD([*built.parameters(), *balancer.parameters], lr=0.05)
    world, table = World(chunks=chunks), LossTable(rows.tasks, torch.device("cpu"))
    wrapped = world.wrap(built.train())
    batches = rows.epoch(torch.Generator().manual_seed(1), SIZE, world, built.target_replication)
    for _, batch in zip(range(STEPS), batches, strict=False):
        losses = BatchLosses(wrapped, double(batch), table, world, inner_fraction=balancer.inner_fraction)
        train_step(losses, balancer, optimizer, clip_norm=None)
    return torch.cat([p.detach().flatten() for p in (*built.parameters(), *built.buffers())])


def double(batch: Batch) -> Batch:
    inputs = batch.inputs._replace(numeric_BF=batch.inputs.numeric_BF.double())
    if inputs.steps is not None:
        inputs = inputs._replace(steps=inputs.steps._replace(numeric_BTS=inputs.steps.numeric_BTS.double()))
    return batch._replace(inputs=inputs)


@pytest.mark.parametrize("balancing", BALANCING)
@pytest.mark.parametrize(("model", "data"), ALL_METHODS)
def test_chunks_change_no_step_of_any_method(model, data, balancing) -> None:
    whole = steps(model, data, balancing, 1)
    for chunks in (2, 3):
        torch.testing.assert_close(steps(model, data, balancing, chunks), whole, rtol=0, atol=1e-8)


@pytest.mark.parametrize("balancing", [UniformConfig(), PcGradConfig()], ids=["uniform", "pcgrad"])
@pytest.mark.parametrize(("model", "data"), each(OTHERS, SLOW))
def test_chunks_change_no_step_of_any_architecture(model, data, balancing) -> None:
    whole = steps(model, data, balancing, 1)
    torch.testing.assert_close(steps(model, data, balancing, 3), whole, rtol=0, atol=1e-8)


class Held:
    """Bytes that graphs keep for their backward passes, and the most that they ever kept. What a tensor shares with
    another counts once."""

    def __init__(self) -> None:
        self.now, self.most, self._users = 0, 0, Counter[int]()

    def keep(self, tensor: Tensor) -> Kept:
        kept, place, size = Kept(tensor), tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        self._users[place] += 1
        if self._users[place] == 1:
            self.now += size
            self.most = max(self.most, self.now)
        weakref.finalize(kept, self._drop, place, size)
        return kept

    def _drop(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if self._users[place] == 0:
            self.now -= size


class Kept:
    """Of a node."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


def most_bytes(balancing: BalancingConfig, chunks: int) -> int:
    """Of one step of a model most of whose memory is activations: recurrent, on long sequences."""
    rows = learnable_sequences()
    model = build_model(MMoEConfig(hidden=16, expert=GruConfig()), rows.input_spec, rows.tasks, seed=0)
    balancer = build_balancer(for_tasks(balancing, rows.tasks), rows.tasks, seed=0)
    world, table = World(chunks=chunks), LossTable(rows.tasks, torch.device("cpu"))
    batch = next(rows.epoch(torch.Generator().manual_seed(1), 128, world))
    losses = BatchLosses(world.wrap(model), batch, table, world, inner_fraction=balancer.inner_fraction)
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.keep, lambda kept: kept.tensor):
        balancer.backward(losses)
    return held.most


@pytest.mark.slow
@pytest.mark.parametrize("balancing", [UniformConfig(), PcGradConfig(), MamlMtlConfig(order=2)], ids=lambda c: c.kind)
def test_half_a_batch_at_a_time_needs_about_half_the_memory(balancing) -> None:
    check_memory(balancing)


@pytest.mark.slow
@pytest.mark.parametrize("balancing", BALANCING)
def test_every_method_needs_less_memory_for_chunks(balancing) -> None:
    check_memory(balancing)


def check_memory(balancing: BalancingConfig) -> None:
    whole, halves, quarters = (most_bytes(balancing, chunks) for chunks in (1, 2, 4))
    assert halves < 0.62 * whole
    assert quarters < 0.4 * whole


def of_seed(function: Any) -> Any:
    """With the draws of the process alike every time, and what it draws after them."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return function(), torch.rand(1)


@pytest.mark.parametrize("data", ["table", "sequences"])
@pytest.mark.parametrize("twice", [False, True])
def test_a_chunk_that_is_run_again_draws_the_dropout_that_it_drew(data, twice) -> None:
    """Plain autograd on one half after the other is the oracle, for gradients and for gradients of gradients."""
    rows = learnable() if data == "table" else learnable_sequences()
    expert = DenseConfig() if data == "table" else TransformerConfig() if twice else GruConfig()
    config = MMoEConfig(hidden=8, expert=expert, dropout=0.4)
    model = build_model(config.model_copy(update={"expert_dropout": 0.3}), rows.input_spec, rows.tasks, 0).double()
    inputs = double(next(rows.ordered("train", 40, World()))).inputs
    parameters = list(model.parameters())

    def gradients(outputs_PO: Tensor) -> tuple[Tensor, ...]:
        found = torch.autograd.grad(outputs_PO.square().sum(), parameters, create_graph=twice, allow_unused=True)
        if not twice:
            return found
        squares = [each.square().sum() for each in found if each is not None and each.requires_grad]
        return torch.autograd.grad(torch.stack(squares).sum(), parameters, allow_unused=True)

    def whole() -> tuple[Tensor, ...]:
        with twice_differentiable():
            return gradients(torch.cat([model(half) for half in split(inputs, 2)]))

    def in_chunks() -> tuple[Tensor, ...]:
        with twice_differentiable():
            seen = World(chunks=2).wrap(model)(inputs)
        torch.rand(3)  # what is drawn in between
        return gradients(seen.outputs_PO)

    (expected, after), (found, after_chunks) = of_seed(whole), of_seed(in_chunks)
    torch.testing.assert_close(found, expected)
    assert after != after_chunks, "three more numbers were drawn, and nothing else"


def test_what_is_drawn_once_for_a_batch_is_drawn_once_for_its_chunks() -> None:
    rows = learnable()
    inputs = next(rows.ordered("train", 40, World())).inputs
    states = []
    for chunks in (1, 2, 3):
        model = build_model(small(AdaShareConfig), rows.input_spec, rows.tasks, 0)
        World(chunks=chunks).wrap(model)(inputs).outputs_PO.sum().backward()
        states.append(model.state_dict()["policy._extra_state"])
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_a_chunk_that_is_run_again_is_rounded_as_it_was() -> None:
    """Under bfloat16; parameters' gradients stay float32."""
    rows = learnable_sequences()
    model = build_model(MMoEConfig(hidden=8), rows.input_spec, rows.tasks, 0)
    batch = next(rows.ordered("train", 40, World()))
    found = []
    for chunks in (1, 3):
        world = World(chunks=chunks)
        table = LossTable(rows.tasks, world.device)
        model.zero_grad()
        BatchLosses(world.wrap(model), batch, table, world, amp=True)().loss_K.sum().backward()
        found.append([p.grad for p in model.parameters()])
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())
    # bfloat16 has eight bits, and sums of a batch are rounded in other places than sums of its chunks
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("chunks", "sizes"), [(1, [5]), (2, [2, 3]), (3, [1, 2, 2]), (5, [1] * 5), (9, [1] * 5)])
@pytest.mark.parametrize("data", ["table", "sequences"])
def test_rows_are_in_one_chunk_each(data, chunks, sizes) -> None:
    rows = learnable() if data == "table" else learnable_sequences()
    inputs = next(rows.ordered("train", 5, World())).inputs
    parts = list(split(inputs, chunks))
    assert [len(part.numeric_BF) for part in parts] == sizes
    assert torch.equal(torch.cat([part.numeric_BF for part in parts]), inputs.numeric_BF)
    model = build_model(MMoEConfig(hidden=8), rows.input_spec, rows.tasks, 0).eval()
    torch.testing.assert_close(torch.cat([model(part) for part in parts]), model(inputs))


def test_sequences_without_a_prediction_are_in_no_chunk() -> None:
    inputs = next(learnable_sequences().ordered("train", 4, World())).inputs
    assert inputs.steps is not None
    num_steps = inputs.steps.numeric_BTS.shape[1]
    of_the_third = inputs.steps.position_P // num_steps == 2
    some = inputs._replace(steps=inputs.steps._replace(position_P=inputs.steps.position_P[of_the_third]))
    (part,) = split(some, 4)
    assert part.steps is not None
    assert torch.equal(part.numeric_BF, inputs.numeric_BF[2:3])
    assert torch.equal(part.steps.position_P, some.steps.position_P - 2 * num_steps)


@pytest.mark.parametrize("data", ["table", "sequences"])
def test_scores_and_diagnostics_are_those_of_whole_batches(data) -> None:
    rows = learnable() if data == "table" else learnable_sequences()
    model = build_model(small(MMoEExConfig), rows.input_spec, rows.tasks, 0)
    whole, chunked = World(), World(chunks=3)
    for one, other in zip(predict(model, rows, "test", whole), predict(model, rows, "test", chunked), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    (mixture, record), (other, again) = (Diagnostics(model, rows, world).after(1) for world in (whole, chunked))
    assert mixture is not None
    assert other is not None
    assert other.gate_entropy == pytest.approx(mixture.gate_entropy, abs=1e-5)
    assert again.multiply_adds == record.multiply_adds

"""What holds for every architecture and every kind of expert, whatever the columns and the tasks."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from mtlsearch.config import ArchitectureConfig, DenseConfig, ExpertConfig
from mtlsearch.models import Inputs, InputSpec, MultiTaskModel, build_model
from mtlsearch.models.inputs import StepInputs

KINDS = get_args(get_args(ArchitectureConfig)[0])
EXPERTS = get_args(get_args(ExpertConfig)[0])
SHALLOW = [
    pytest.param(kind(expert=expert(), hidden=16), id=f"{kind.__name__} {expert.__name__}")
    for kind in KINDS
    for expert in EXPERTS
]
DEEP = [
    pytest.param(kind(expert=expert(num_layers=2), hidden=16, tower_layers=2), id=f"{kind.__name__} {expert.__name__}2")
    for kind in KINDS
    for expert in EXPERTS
]
CONFIGS = SHALLOW + DEEP
BOTH, STEPS = InputSpec(5, (3, 7)), InputSpec(5, (3, 7), 4, (2, 6))
SPECS = [
    pytest.param(BOTH, id="table"),
    pytest.param(InputSpec(5, ()), id="numeric table"),
    pytest.param(InputSpec(0, (3, 7)), id="categorical table"),
    pytest.param(STEPS, id="sequences"),
    pytest.param(InputSpec(0, (), 4, ()), id="numeric sequences"),
    pytest.param(InputSpec(0, (3,), 0, (2, 6)), id="categorical sequences"),
]
WIDTHS = [
    pytest.param((1, 1, 1), id="equal"),
    pytest.param((2, 1, 4), id="unequal"),
    pytest.param((1,), id="one"),
]
T = 7
"""Steps of the longest sequence."""


def some_inputs(spec: InputSpec, size: int = 64) -> Inputs:
    """Of sequences, outputs are wanted at every step."""
    draw = torch.Generator().manual_seed(1)
    numeric_BF = torch.randn(size, spec.num_numeric, generator=draw)
    rows = Inputs(numeric_BF, indices(spec.cardinalities, draw, size))
    if not spec.has_steps:
        return rows
    length_B = torch.randint(1, T + 1, (size,), generator=draw)
    length_B[0] = T
    real_BT = torch.arange(T) < length_B[:, None]
    numeric_BTS = torch.randn(size, T, spec.num_step_numeric, generator=draw) * real_BT[..., None]
    categorical_BTD = indices(spec.step_cardinalities, draw, size, T) * real_BT[..., None]
    return rows._replace(steps=StepInputs(numeric_BTS, categorical_BTD, length_B, real_BT.flatten().nonzero()[:, 0]))


def indices(cardinalities: tuple[int, ...], draw: torch.Generator, *shape: int) -> Tensor:
    columns = [torch.randint(n, (*shape, 1), generator=draw) for n in cardinalities]
    return torch.cat([torch.zeros(*shape, 0, dtype=torch.int64), *columns], -1)


def steps_of(inputs: Inputs) -> StepInputs:
    assert inputs.steps is not None
    return inputs.steps


def only(inputs: Inputs, rows: Tensor) -> Inputs:
    """These rows, in this order."""
    some = Inputs(inputs.numeric_BF[rows], inputs.categorical_BC[rows])
    if inputs.steps is None:
        return some
    numeric_BTS, categorical_BTD, length_B = (tensor[rows] for tensor in inputs.steps[:3])
    real_BT = torch.arange(T) < length_B[:, None]
    return some._replace(steps=StepInputs(numeric_BTS, categorical_BTD, length_B, real_BT.flatten().nonzero()[:, 0]))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("widths", WIDTHS)
def test_shape_and_a_finite_gradient_for_every_parameter(config, spec, widths) -> None:
    model = build_model(config, spec, widths, seed=0)
    inputs = some_inputs(spec)
    outputs_PO = model(inputs)
    num_predictions = 64 if inputs.steps is None else int(inputs.steps.length_B.sum())
    assert outputs_PO.shape == (num_predictions, sum(widths))
    outputs_PO.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or (name == "gates.weight_KEI" and len(widths) < 2), name
        assert parameter.grad.is_contiguous(), name
    assert model.num_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_state_round_trip(config, tmp_path) -> None:
    first, second = (build_model(config, BOTH, (1, 2), seed) for seed in (0, 1))
    inputs = some_inputs(BOTH)
    assert not torch.equal(first(inputs), second(inputs))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(first(inputs), second(inputs))


@pytest.mark.parametrize("config", CONFIGS)
def test_weights_come_from_the_seed_alone(config) -> None:
    torch.manual_seed(1)
    first = build_model(config, BOTH, (1, 2), seed=5)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1)), "the global generator was read"
    second = build_model(config, BOTH, (1, 2), seed=5)
    assert torch.equal(first(some_inputs(BOTH)), second(some_inputs(BOTH)))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("spec", [BOTH, STEPS], ids=["table", "sequences"])
def test_rows_do_not_see_each_other(config, spec) -> None:
    model, inputs = build_model(config, spec, (1, 2), seed=0), some_inputs(spec)
    order_B = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    by_row = list(model(inputs).split(1 if inputs.steps is None else inputs.steps.length_B.tolist()))
    permuted = torch.cat([by_row[row] for row in order_B])
    torch.testing.assert_close(model(only(inputs, order_B)), permuted, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(only(inputs, torch.tensor([5]))), by_row[5], rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_what_comes_after_a_step_changes_nothing_up_to_it(config) -> None:
    model, inputs = build_model(config, STEPS, (1, 2), seed=0), some_inputs(STEPS)
    steps, now = steps_of(inputs), 3
    later = steps._replace(numeric_BTS=steps.numeric_BTS.clone(), categorical_BTD=steps.categorical_BTD.clone())
    later.numeric_BTS[:, now + 1 :] += 10
    later.categorical_BTD[:, now + 1 :] = 1
    before_PO, after_PO = model(inputs), model(inputs._replace(steps=later))
    is_past_P = steps.position_P % T <= now
    torch.testing.assert_close(after_PO[is_past_P], before_PO[is_past_P], rtol=0, atol=1e-6)
    assert not torch.isclose(after_PO[~is_past_P], before_PO[~is_past_P]).any(1).all()


@pytest.mark.parametrize("config", CONFIGS)
def test_a_recurrent_expert_remembers_and_a_dense_one_does_not(config) -> None:
    model, inputs = build_model(config, STEPS, (1, 2), seed=0), some_inputs(STEPS)
    steps = steps_of(inputs)
    other = steps._replace(numeric_BTS=steps.numeric_BTS.clone())
    other.numeric_BTS[:, 0] += 3
    differ_P = (model(inputs) != model(inputs._replace(steps=other))).any(1)
    assert differ_P[steps.position_P % T == 0].all()
    assert differ_P[steps.position_P % T == 1].all() == config.expert.reads_steps


@pytest.mark.parametrize("config", CONFIGS)
def test_padding_does_not_matter(config) -> None:
    """More of it, and full of something else."""
    model, inputs = build_model(config, STEPS, (1, 2), seed=0), some_inputs(STEPS)
    steps, more = steps_of(inputs), 4
    is_padding_BT1 = (torch.arange(T + more) >= steps.length_B[:, None])[..., None]
    numeric_BTS = torch.nn.functional.pad(steps.numeric_BTS, (0, 0, 0, more)).masked_fill(is_padding_BT1, 1e3)
    categorical_BTD = torch.nn.functional.pad(steps.categorical_BTD, (0, 0, 0, more)).masked_fill(is_padding_BT1, 1)
    position_P = steps.position_P // T * (T + more) + steps.position_P % T
    padded = inputs._replace(steps=StepInputs(numeric_BTS, categorical_BTD, steps.length_B, position_P))
    torch.testing.assert_close(model(padded), model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", SHALLOW)
def test_outputs_at_some_steps_are_those_among_all_of_them(config) -> None:
    model, inputs = build_model(config, STEPS, (1, 2), seed=0), some_inputs(STEPS)
    steps, chosen = steps_of(inputs), torch.tensor([9, 0, 4, 4])
    some = inputs._replace(steps=steps._replace(position_P=steps.position_P[chosen]))
    torch.testing.assert_close(model(some), model(inputs)[chosen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", [BOTH, STEPS], ids=["table", "sequences"])
def test_two_copies_run_as_one_under_vmap(kind, spec) -> None:
    config = kind(expert=DenseConfig(num_layers=2))
    models: list[MultiTaskModel] = [build_model(config, spec, (2, 1), seed) for seed in (0, 1)]
    inputs = some_inputs(spec)

    def run(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (inputs,))

    stacked = vmap(run)(*stack_module_state(models))
    for outputs_PO, model in zip(stacked, models, strict=True):
        torch.testing.assert_close(outputs_PO, model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", SHALLOW)
@pytest.mark.parametrize("spec", [BOTH, STEPS], ids=["table", "sequences"])
def test_the_exported_model_gives_the_same_outputs(config, spec) -> None:
    model, inputs = build_model(config, spec, (2, 1), seed=0).eval(), some_inputs(spec)
    exported = torch.export.export(model, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", SHALLOW)
@pytest.mark.parametrize("spec", [BOTH, STEPS], ids=["table", "sequences"])
def test_bfloat16_autocast(config, spec) -> None:
    model, inputs = build_model(config, spec, (2, 1), seed=0), some_inputs(spec)
    with torch.autocast("cpu", torch.bfloat16):
        outputs_PO = model(inputs)
    outputs_PO.float().square().sum().backward()
    torch.testing.assert_close(outputs_PO.float(), model(inputs), rtol=0, atol=0.03)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

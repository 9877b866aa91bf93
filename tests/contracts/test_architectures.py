"""What holds for every architecture, whatever the columns and the tasks."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from mtlsearch.config import ArchitectureConfig, DenseConfig
from mtlsearch.models import Inputs, InputSpec, MultiTaskModel, build_model

KINDS = get_args(get_args(ArchitectureConfig)[0])
DEEP = {"expert": DenseConfig(num_layers=2), "tower_layers": 2}
CONFIGS = [pytest.param(kind(**more), id=f"{kind.__name__}{len(more)}") for kind in KINDS for more in ({}, DEEP)]
SPECS = [
    pytest.param(InputSpec(5, (3, 7)), id="both"),
    pytest.param(InputSpec(5, ()), id="numeric"),
    pytest.param(InputSpec(0, (3, 7)), id="categorical"),
]
WIDTHS = [
    pytest.param((1, 1, 1), id="equal"),
    pytest.param((2, 1, 4), id="unequal"),
    pytest.param((1,), id="one"),
]
BOTH = InputSpec(5, (3, 7))


def some_inputs(spec: InputSpec, size: int = 64) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randint(n, (size, 1), generator=generator) for n in spec.cardinalities]
    categorical_BC = torch.cat([torch.zeros(size, 0, dtype=torch.int64), *columns], 1)
    return Inputs(torch.randn(size, spec.num_numeric, generator=generator), categorical_BC)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("widths", WIDTHS)
def test_shape_and_a_finite_gradient_for_every_parameter(config, spec, widths) -> None:
    model = build_model(config, spec, widths, seed=0)
    outputs_BO = model(some_inputs(spec))
    assert outputs_BO.shape == (64, sum(widths))
    outputs_BO.square().sum().backward()
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
def test_rows_do_not_see_each_other(config) -> None:
    model, inputs = build_model(config, BOTH, (1, 2), seed=0), some_inputs(BOTH)
    order_B = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    permuted = Inputs(inputs.numeric_BF[order_B], inputs.categorical_BC[order_B])
    torch.testing.assert_close(model(permuted), model(inputs)[order_B], rtol=0, atol=1e-6)
    first = Inputs(inputs.numeric_BF[:1], inputs.categorical_BC[:1])
    torch.testing.assert_close(model(first), model(inputs)[:1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", CONFIGS)
def test_two_copies_run_as_one_under_vmap(config) -> None:
    models: list[MultiTaskModel] = [build_model(config, BOTH, (2, 1), seed) for seed in (0, 1)]
    inputs = some_inputs(BOTH)

    def run(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (inputs,))

    stacked = vmap(run)(*stack_module_state(models))
    for outputs_BO, model in zip(stacked, models, strict=True):
        torch.testing.assert_close(outputs_BO, model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_model_gives_the_same_outputs(kind) -> None:
    model, inputs = build_model(kind(), BOTH, (2, 1), seed=0).eval(), some_inputs(BOTH)
    exported = torch.export.export(model, (inputs,)).module()
    torch.testing.assert_close(exported(inputs), model(inputs), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_autocast(kind) -> None:
    model, inputs = build_model(kind(), BOTH, (2, 1), seed=0), some_inputs(BOTH)
    with torch.autocast("cpu", torch.bfloat16):
        outputs_BO = model(inputs)
    outputs_BO.float().square().sum().backward()
    torch.testing.assert_close(outputs_BO.float(), model(inputs), rtol=0, atol=0.03)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

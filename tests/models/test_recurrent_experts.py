"""Recurrent experts: torch's own networks, but with weights that are truly arguments."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtlsearch.config import GruConfig, LstmConfig, RnnConfig, SingleTaskConfig
from mtlsearch.models import Inputs, InputSpec, build_model
from mtlsearch.models.experts import JoinedExperts, RecurrentExperts
from mtlsearch.models.inputs import Features, StepInputs

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
B, T, I, H, E = 4, 6, 5, 3, 2  # noqa: E741 - the axes' own names


def fresh() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def experts(cell, num_layers: int = 2, dropout: float = 0.0, hidden: int = H) -> RecurrentExperts:
    return RecurrentExperts(cell, E, (I, *[hidden] * num_layers), dropout, fresh())


def sequences(*leading: int) -> Features:
    x_BTI = torch.randn(*leading, B, T, I, generator=fresh())
    position_P = torch.tensor([5, 0, 13, 7, 23])
    return Features(x_BTI.flatten(-3, -2)[..., position_P, :], x_BTI, None, position_P)


def torchs_own(module: RecurrentExperts, expert: int) -> nn.Module:
    """The torch module with the expert's weights."""
    own = CELLS[module.cell](I, H, module.num_layers, batch_first=True)
    pieces = module.weights[expert].detach().split([shape.numel() for shape in module.shapes])
    matrices, biases = pieces[: len(pieces) // 2], pieces[len(pieces) // 2 :]
    names = [
        (f"weight_{to}_l{layer}", f"bias_{to}_l{layer}") for layer in range(module.num_layers) for to in ("ih", "hh")
    ]
    with torch.no_grad():
        for (weight, bias), matrix, vector in zip(names, matrices, biases, strict=True):
            getattr(own, weight).copy_(matrix.view_as(getattr(own, weight)))
            getattr(own, bias).copy_(vector)
    return own


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("own_inputs", [False, True])
def test_each_expert_is_torchs_network_with_its_weights(cell, num_layers, own_inputs) -> None:
    module = experts(cell, num_layers)
    features = sequences(E) if own_inputs else sequences()
    assert features.steps_BTI is not None
    f_EPH = module(features)
    for expert in range(E):
        x_BTI = features.steps_BTI[expert] if own_inputs else features.steps_BTI
        h_BTH, _ = torchs_own(module, expert)(x_BTI)
        torch.testing.assert_close(f_EPH[expert], h_BTH.flatten(0, 1)[features.position_P], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_of_a_table_is_a_sequence_of_one_step(cell) -> None:
    module, x_BI = experts(cell), torch.randn(B, I, generator=fresh())
    f_EBH = module(Features(x_BI, x_BI.unsqueeze(1), None, None))
    for expert in range(E):
        h_BTH, _ = torchs_own(module, expert)(x_BI.unsqueeze(1))
        torch.testing.assert_close(f_EBH[expert], h_BTH[:, 0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_experts_start_like_as_many_of_torchs_networks(cell) -> None:
    weights = torch.cat([p.detach() for p in experts(cell, hidden=32).parameters()])
    bound = 1 / math.sqrt(32)
    assert weights.abs().max() <= bound
    assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert weights.numel() == E * sum(p.numel() for p in CELLS[cell](I, 32, 2).parameters())


@pytest.mark.parametrize("cell", CELLS)
def test_functional_call_uses_the_weights_that_it_is_given(cell) -> None:
    module, features = experts(cell), sequences()
    other = {name: torch.randn(p.shape, generator=fresh()) for name, p in module.named_parameters()}
    replaced = functional_call(module, other, (features,))
    assert not torch.allclose(replaced, module(features))
    module.load_state_dict(other)
    torch.testing.assert_close(module(features), replaced, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_second_gradient_is_that_of_the_first_one(cell, num_layers) -> None:
    """Along a random direction, against the first gradient's central difference."""
    module, features = experts(cell, num_layers).double(), sequences()
    assert features.steps_BTI is not None
    features = Features(features.at_PI.double(), features.steps_BTI.double(), None, features.position_P)
    weights = {name: p.detach() for name, p in module.named_parameters()}
    direction = {name: torch.randn(p.shape, generator=fresh(), dtype=p.dtype) for name, p in weights.items()}

    def gradient(step: float, *, create_graph: bool = False) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        at = [(w + step * direction[name]).requires_grad_() for name, w in weights.items()]
        loss = functional_call(module, dict(zip(weights, at, strict=True)), (features,)).square().sum()
        return at, torch.autograd.grad(loss, at, create_graph=create_graph)

    at, first = gradient(0.0, create_graph=True)
    along = sum((g * d).sum() for g, d in zip(first, direction.values(), strict=True))
    assert isinstance(along, Tensor)
    second = torch.autograd.grad(along, at)
    for exact, above, below in zip(second, gradient(1e-5)[1], gradient(-1e-5)[1], strict=True):
        torch.testing.assert_close(exact, (above - below) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("cell", CELLS)
def test_the_second_gradient_in_float32_is_that_in_float64(cell) -> None:
    """Other kernels serve float32 on a CPU."""
    second = []
    for dtype in (torch.float32, torch.float64):
        module, features = experts(cell).to(dtype), sequences()
        assert features.steps_BTI is not None
        loss = module(Features(features.at_PI, features.steps_BTI.to(dtype), None, features.position_P)).square().sum()
        first = torch.autograd.grad(loss, list(module.parameters()), create_graph=True)
        norm = torch.stack([g.square().sum() for g in first]).sum()
        second.append([g.double() for g in torch.autograd.grad(norm, list(module.parameters()))])
    for single, double in zip(*second, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_dropout_acts_in_training_only_between_layers_and_after_the_last(cell, num_layers) -> None:
    module, features = experts(cell, num_layers, dropout=0.5), sequences()
    f_EPH = module(features)
    assert (f_EPH == 0).any()
    assert not torch.equal(f_EPH, module(features))
    module.eval()
    without = experts(cell, num_layers)
    assert torch.equal(module(features), without(features))
    kept = (f_EPH != 0).nonzero(as_tuple=True)
    scaled = torch.allclose(f_EPH[kept], 2 * without(features)[kept], atol=1e-6)
    assert scaled == (num_layers == 1), "layers above the first read what dropout left"


@pytest.mark.parametrize("expert", [GruConfig, LstmConfig, RnnConfig])
def test_a_single_task_network_gets_nothing_from_the_others(expert) -> None:
    model = build_model(SingleTaskConfig(expert=expert(), hidden=8), InputSpec(2, (3,), 4, (5,)), (1, 1), seed=0)
    steps = StepInputs(
        torch.randn(B, T, 4, generator=fresh()), torch.ones(B, T, 1).long(), torch.full((B,), T), torch.arange(B * T)
    )
    outputs_PO = model(Inputs(torch.randn(B, 2, generator=fresh()), torch.ones(B, 1).long(), steps))
    names, parameters = zip(*model.named_parameters(), strict=True)
    for k in range(2):
        gradients = dict(
            zip(
                names,
                torch.autograd.grad(outputs_PO[:, k].sum(), parameters, retain_graph=True, allow_unused=True),
                strict=True,
            )
        )
        own, other = gradients[f"experts.recurrent.weights.{k}"], gradients[f"experts.recurrent.weights.{1 - k}"]
        assert own is not None
        assert own.any()
        assert other is None or not other.any()
        for table in ("inputs.embeddings.tables.0", "inputs.step_embeddings.tables.0"):
            assert gradients[table][:, k].any()
            assert not gradients[table][:, 1 - k].any()


@pytest.mark.parametrize("own_inputs", [False, True])
def test_the_rows_inputs_meet_what_was_made_of_the_steps(own_inputs) -> None:
    """f_e = ReLU(W_e h_e + V_e r), each expert by itself; with inputs of their own each reads its own r."""
    module = JoinedExperts(experts("gru"), E, 4, own_inputs, 0.0, fresh())
    features = sequences(E) if own_inputs else sequences()
    rows_PI = torch.randn(*([E] if own_inputs else []), 5, 4, generator=fresh())
    features = features._replace(rows_PI=rows_PI)
    f_EPH, h_EPH = module(features), module.recurrent(features)
    for expert in range(E):
        row_PI = rows_PI[expert] if own_inputs else rows_PI
        weight = module.of_rows.weight_EIH[expert] if own_inputs else module.of_rows.weight_EHI[expert].t()
        joined_PH = h_EPH[expert] @ module.of_steps.weight_EIH[expert] + module.of_steps.bias_EH[expert]
        joined_PH = joined_PH + row_PI @ weight + module.of_rows.bias_EH[expert]
        torch.testing.assert_close(f_EPH[expert], joined_PH.relu(), rtol=0, atol=1e-6)

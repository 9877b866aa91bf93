"""What a trial's record says of its model: its size, its work, and how a mixture of experts is used."""

from __future__ import annotations

import math

import pytest
import torch
from conftest_train import SEQUENCE_TASKS, TASKS, learnable, learnable_sequences, order, trained
from toy_models import SEQUENCES, TABLE, some_inputs, steps_of, tasks

from mtlsearch.config import (
    AdaShareConfig,
    DenseConfig,
    GruConfig,
    LstmConfig,
    MMoEConfig,
    MMoEExConfig,
    SharedBottomConfig,
    TransformerConfig,
)
from mtlsearch.folder import ExperimentFolder
from mtlsearch.models import MultiTaskModel, build_model
from mtlsearch.models.diversity import distances
from mtlsearch.records import ModelRecord
from mtlsearch.train import TensorData, World
from mtlsearch.train.diagnostics import SAMPLE, Diagnostics, count, fewer_predictions, multiply_adds, one_row

K, H = 2, 8


def built(data: TensorData, **fields) -> MultiTaskModel:
    return build_model(MMoEExConfig(hidden=H, **fields), data.input_spec, data.tasks, seed=0)


def test_multiply_adds_of_a_shared_bottom_are_those_of_its_matrices() -> None:
    config = SharedBottomConfig(hidden=H, expert=DenseConfig(num_layers=2), tower_hidden=6)
    model = build_model(config, TABLE, tasks(1, 1), seed=0)
    inputs = model.inputs.num_units  # type: ignore[union-attr]
    assert multiply_adds(model, TABLE, None) == inputs * H + H * H + K * (H * 6 + 6)


def test_multiply_adds_of_an_lstm_grow_with_the_steps() -> None:
    config = SharedBottomConfig(hidden=H, expert=LstmConfig(), tower_layers=0)
    model = build_model(config, SEQUENCES, tasks(1, 1), seed=0)
    layer = model.bottom.layers[0].shapes  # type: ignore[union-attr,index]
    a_step = sum(shape.numel() for shape in layer if len(shape) == 2)
    ten, twenty = (multiply_adds(model, SEQUENCES, steps) for steps in (10, 20))
    assert twenty - ten == 10 * a_step
    assert multiply_adds(model, SEQUENCES, 12.5) == pytest.approx(ten + 2.5 * a_step, abs=1)


@pytest.mark.parametrize("expert", [DenseConfig(), GruConfig(num_layers=2), TransformerConfig(num_layers=2)])
def test_three_short_sequences_tell_the_count_of_a_long_one(expert) -> None:
    model = build_model(MMoEConfig(hidden=H, expert=expert), SEQUENCES, tasks(1, 3), seed=0)
    assert multiply_adds(model, SEQUENCES, 17) == count(model, one_row(SEQUENCES, 17))


def test_one_task_with_labels_of_steps_wants_all_of_them() -> None:
    data = learnable_sequences()
    model, spec = built(data, num_experts=8), data.input_spec
    assert (
        multiply_adds(model, spec, 5) == count(model, one_row(spec, 5, per_step=True)) > count(model, one_row(spec, 5))
    )


@pytest.mark.parametrize("config", [MMoEConfig(hidden=H), AdaShareConfig(hidden=H)])
def test_counting_leaves_the_model_as_it_was(config) -> None:
    """And what it would draw next."""
    model, twin = (build_model(config, TABLE, tasks(1, 1), seed=0) for _ in range(2))
    multiply_adds(model, TABLE, None)
    assert model.training
    assert torch.equal(model(some_inputs(TABLE)), twin(some_inputs(TABLE)))


def test_a_mixtures_record_is_that_of_its_gates_and_experts() -> None:
    data = learnable()
    model = built(data, num_experts=4, alpha=0.5)
    metrics, record = Diagnostics(model, data, World()).after(3)
    assert metrics is not None
    assert record.epoch == 3
    assert record.num_parameters == sum(p.numel() for p in model.parameters())
    assert record.open_experts == {t.name: tuple(row) for t, row in zip(TASKS, model.open_KE.tolist(), strict=True)}  # type: ignore[operator,union-attr]
    assert record.gate_utilization is not None
    assert record.expert_distance is not None
    for name, shares in record.gate_utilization.items():
        assert sum(shares) == pytest.approx(1)
        assert metrics.gate_entropy[name] == pytest.approx(-sum(p * math.log(p) for p in shares if p > 0))
        for share, is_open in zip(shares, record.open_experts[name], strict=True):
            assert (share > 0) == is_open
    entries = [entry for row in record.expert_distance for entry in row]
    assert max(entries) == 1
    assert metrics.diversity == pytest.approx(sum(entries) / 16)
    assert metrics.diversity_off_diagonal == pytest.approx(sum(entries) / 12)
    assert metrics.dead_experts == 0


def test_an_expert_that_no_gate_opens_far_is_dead() -> None:
    data = learnable()
    model = built(data, num_experts=4, alpha=0.0)
    model.inputs.forward = lambda inputs: always_one(model, inputs)  # type: ignore[method-assign,union-attr]
    with torch.no_grad():
        model.gates.weight_KEI[:, 2] -= 100.0  # type: ignore[union-attr,operator,index]
    metrics, _ = Diagnostics(model, data, World()).after(1)
    assert metrics is not None
    assert metrics.dead_experts == 1


def always_one(model: MultiTaskModel, inputs):
    """Features whose inputs are all one, so that a gate's weights are its logit."""
    features = type(model.inputs).forward(model.inputs, inputs)
    return features._replace(at_PI=torch.ones_like(features.at_PI), entry_MI=torch.ones_like(features.entry_MI))


def test_no_mixture_no_numbers_of_one() -> None:
    data = learnable()
    model = build_model(SharedBottomConfig(hidden=H), data.input_spec, data.tasks, seed=0)
    metrics, record = Diagnostics(model, data, World()).after(1)
    assert metrics is None
    assert record.gate_utilization is record.expert_distance is record.open_experts is None


def test_padding_is_in_no_average() -> None:
    """All steps of all validation sequences are looked at: their number is that of the real steps."""
    data = learnable_sequences()
    model = built(data, num_experts=8, expert=GruConfig())
    seen = []
    original = model.mixture
    model.mixture = lambda inputs: seen.append(inputs) or original(inputs)  # type: ignore[method-assign,func-returns-value]
    Diagnostics(model, data, World()).after(1)
    seen = [inputs for inputs in seen if not inputs.numeric_BF.is_meta]  # those without content are for counting
    positions = sum(len(steps_of(inputs).position_P) for inputs in seen)
    assert 0 < positions <= SAMPLE * len(seen)
    for inputs in seen:
        steps, num_steps = steps_of(inputs), steps_of(inputs).numeric_BTS.shape[1]
        step_P, row_P = steps.position_P % num_steps, steps.position_P // num_steps
        assert (step_P < steps.length_B[row_P]).all()


def test_it_is_validation_that_is_looked_at_and_without_dropout() -> None:
    data = learnable({"train": 64, "validation": 200, "test": 64})
    model = build_model(MMoEConfig(hidden=H, expert_dropout=0.5), data.input_spec, data.tasks, seed=0)
    (batch,) = data.ordered("validation", 200, World())
    with torch.no_grad():
        gates, experts = model.eval().mixture(batch.inputs)  # type: ignore[misc]
    metrics, record = Diagnostics(model.train(), data, World()).after(1)
    assert metrics is not None
    assert model.training
    shares = torch.tensor(list((record.gate_utilization or {}).values()))
    torch.testing.assert_close(shares, gates.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.tensor(record.expert_distance), distances(experts).float(), rtol=0, atol=1e-5)


def test_of_many_rows_a_sample_is_looked_at() -> None:
    data = learnable({"train": 64, "validation": 2 * SAMPLE + 1, "test": 64})
    sizes = [len(inputs.numeric_BF) for inputs in Diagnostics(built(data), data, World())._sample()]
    assert SAMPLE / 2 < sum(sizes) <= SAMPLE


@pytest.mark.parametrize("size", [100, SAMPLE // 3, SAMPLE])
def test_of_a_batchs_predictions_no_more_are_left_out_than_must_be(size) -> None:
    inputs = some_inputs(SEQUENCES, size)
    all_P, some_P = (steps_of(each).position_P for each in (inputs, fewer_predictions(inputs)))
    every = math.ceil(len(all_P) / SAMPLE)
    assert torch.equal(some_P, all_P[::every])
    assert len(some_P) <= SAMPLE


def test_the_record_is_in_the_trials_folder(tmp_path) -> None:
    data, folder = learnable(), ExperimentFolder(tmp_path).trial(3)
    trial = order(epochs=2)
    assert not folder.model.exists()
    epochs = trained(trial, data, folder)
    record = ModelRecord.model_validate_json(folder.model.read_text())
    assert record.epoch == 2
    assert record.num_parameters > 0
    assert record.multiply_adds > 0
    assert [each.mixture is not None for each in folder.epochs()] == [True, True]
    assert folder.epochs() == epochs


def test_sequence_tasks_are_named_in_the_record() -> None:
    data = learnable_sequences()
    metrics, _ = Diagnostics(built(data, num_experts=8), data, World()).after(1)
    assert metrics is not None
    assert list(metrics.gate_entropy) == [task.name for task in SEQUENCE_TASKS]

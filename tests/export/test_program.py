"""The `torch.export` program: the model's numbers for any number of rows and steps, or a reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlsearch.config import MMoEConfig, PerceiverIoConfig, PleConfig, SharedBottomConfig, Task
from mtlsearch.config.model.experts import GruConfig, TransformerConfig
from mtlsearch.export.program import RowProgram, SequenceProgram, write_program
from mtlsearch.models import InputSpec, build_model

pytestmark = pytest.mark.slow

TASKS = (
    Task(name="ill", kind="binary"),
    Task(name="stage", kind="multiclass", classes=("low", "high")),
    Task(name="signs", kind="multilabel", classes=("cough", "fever", "rash")),
    Task(name="stay", kind="regression"),
)
ROWS = InputSpec(3, (5, 4))
SEQUENCES = InputSpec(3, (5, 4), 2, (6,))


@dataclass(frozen=True)
class Scales:
    """What of a schema a program needs."""

    tasks: tuple[Task, ...] = TASKS
    label_mean: tuple[float, ...] = (0.0, 0.0, 0.0, 5.0)
    label_std: tuple[float, ...] = (1.0, 1.0, 1.0, 2.0)


def inputs(spec: InputSpec, num_rows: int, num_steps: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(num_rows)
    rows = [torch.randn(num_rows, 3, generator=draw), torch.randint(4, (num_rows, 2), generator=draw)]
    if not spec.has_steps:
        return rows
    steps = [
        torch.randn(num_rows, num_steps, 2, generator=draw),
        torch.randint(6, (num_rows, num_steps, 1), generator=draw),
    ]
    return [*rows, *steps, torch.full((num_rows,), num_steps), torch.arange(num_rows * num_steps)]


@pytest.mark.parametrize(
    ("config", "spec"),
    [
        (SharedBottomConfig(hidden=8), ROWS),
        (PleConfig(hidden=8), ROWS),
        (PerceiverIoConfig(hidden=8), ROWS),
        pytest.param(
            MMoEConfig(num_experts=2, hidden=8, expert=TransformerConfig()), SEQUENCES, marks=pytest.mark.slow
        ),
    ],
    ids=lambda each: getattr(each, "kind", ""),
)
def test_it_gives_probabilities_and_numbers_in_original_units(config: Any, spec: InputSpec, tmp_path: Path) -> None:
    model, scales = build_model(config, spec, TASKS, 0), Scales()
    assert write_program(model, scales, spec, tmp_path / "program.pt2") is None  # type: ignore[arg-type]
    program = torch.export.load(tmp_path / "program.pt2").module()
    plain = (SequenceProgram if spec.has_steps else RowProgram)(model, scales, TASKS)  # type: ignore[arg-type]
    for num_rows, num_steps in ((1, 1), (4, 9)):
        given = inputs(spec, num_rows, num_steps)
        found, expected = program(*given), plain(*given)
        for task in TASKS:
            torch.testing.assert_close(found[task.name], expected[task.name], atol=1e-6, rtol=1e-5)
        assert [*found["signs"].shape] == [num_rows * (num_steps if spec.has_steps else 1), 3]
        torch.testing.assert_close(found["stage"].sum(1), torch.ones(len(found["stage"]), dtype=torch.float64))


@pytest.mark.slow
def test_a_model_that_torch_unrolls_has_none_and_says_so(tmp_path: Path) -> None:
    model = build_model(MMoEConfig(num_experts=2, hidden=8, expert=GruConfig()), SEQUENCES, TASKS, 0)
    reason = write_program(model, Scales(), SEQUENCES, tmp_path / "program.pt2")  # type: ignore[arg-type]
    assert reason is not None
    assert reason.endswith("cannot trace it for any number of rows and steps (UserError)")
    assert not (tmp_path / "program.pt2").exists()

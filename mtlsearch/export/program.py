"""The model as a `torch.export` program: tensors in, predictions out, for services that have torch and nothing else.

Axes: B rows (or sequences), F numeric and C categorical columns; T steps of the longest sequence, S numeric and D
categorical columns a step, P predictions.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mtlsearch.config import Task
from mtlsearch.data import DataSchema
from mtlsearch.export.outputs import Scale
from mtlsearch.models import Inputs, InputSpec, MultiTaskModel
from mtlsearch.models.inputs import StepInputs

SIZES = (3, 5, 7)
"""B, T and P that it is traced with: all differ, and none is 1, which torch would take as fixed."""

UNTRACEABLE = (RuntimeError, ValueError, torch._dynamo.exc.UserError)
"""What torch.export raises for what it cannot trace."""

SIGNATURES = {
    False: "(numeric float32 [B, {F}], categorical int64 [B, {C}]) → dict of float64",
    True: (
        "(numeric float32 [B, {F}], categorical int64 [B, {C}], step_numeric float32 [B, T, {S}], "
        "step_categorical int64 [B, T, {D}], length int64 [B], position int64 [P], as b·T + t) → dict of float64"
    ),
}


class Program(nn.Module):
    """Encoded columns → task → probabilities [P], [P, classes] or [P, labels], or numbers in original units [P]."""

    def __init__(self, model: MultiTaskModel, schema: DataSchema, tasks: tuple[Task, ...]) -> None:
        super().__init__()
        self.model, self.scale, self.tasks = model, Scale(schema, tasks), tasks

    def said(self, inputs: Inputs) -> dict[str, Tensor]:
        """By task."""
        outputs = self.scale(self.model(inputs)).split([task.num_outputs for task in self.tasks], dim=1)
        return {task.name: _said(task, each_PO) for task, each_PO in zip(self.tasks, outputs, strict=True)}


class RowProgram(Program):
    """Of a table's rows."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """See SIGNATURES."""
        return self.said(Inputs(numeric, categorical))


class SequenceProgram(Program):
    """Of sequences: P predictions at `position`."""

    def forward(
        self,
        numeric: Tensor,
        categorical: Tensor,
        step_numeric: Tensor,
        step_categorical: Tensor,
        length: Tensor,
        position: Tensor,
    ) -> dict[str, Tensor]:
        """See SIGNATURES."""
        return self.said(Inputs(numeric, categorical, StepInputs(step_numeric, step_categorical, length, position)))


def write_program(model: MultiTaskModel, schema: DataSchema, spec: InputSpec, path: Path) -> str | None:
    """Traces the model and writes the program, whose batch, steps and predictions may be any number.

    Returns:
        Why there is none; None where there is one.
    """
    program = (SequenceProgram if spec.has_steps else RowProgram)(model.eval(), schema, model.tasks)
    try:
        with torch.no_grad():
            exported = torch.export.export(program, _example(spec), dynamic_shapes=_shapes(spec), strict=False)
    except UNTRACEABLE as error:
        sizes = "rows and steps" if spec.has_steps else "rows"
        return f"torch {torch.__version__} cannot trace it for any number of {sizes} ({type(error).__name__})"
    _strip(exported)
    torch.export.save(exported, path)
    return None


def _strip(exported: torch.export.ExportedProgram) -> None:
    """Takes out what a service does not need: the example, which would be pickled, and where our code lies."""
    exported._example_inputs = None
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def signature(spec: InputSpec) -> str:
    """What the program takes and gives, in a line."""
    return SIGNATURES[spec.has_steps].format(
        F=spec.num_numeric, C=len(spec.cardinalities), S=spec.num_step_numeric, D=len(spec.step_cardinalities)
    )


def _said(task: Task, outputs_PO: Tensor) -> Tensor:
    match task.kind:
        case "regression":
            return outputs_PO.squeeze(1)
        case "binary":
            return outputs_PO.squeeze(1).sigmoid()
        case "multilabel":
            return outputs_PO.sigmoid()
        case _:
            return outputs_PO.softmax(1)


def _example(spec: InputSpec) -> tuple[Tensor, ...]:
    num_rows, num_steps, num_predictions = SIZES
    rows = (
        torch.zeros(num_rows, spec.num_numeric),
        torch.zeros(num_rows, len(spec.cardinalities), dtype=torch.int64),
    )
    if not spec.has_steps:
        return rows
    return (
        *rows,
        torch.zeros(num_rows, num_steps, spec.num_step_numeric),
        torch.zeros(num_rows, num_steps, len(spec.step_cardinalities), dtype=torch.int64),
        torch.full((num_rows,), num_steps),
        torch.arange(num_predictions),
    )


def _shapes(spec: InputSpec) -> dict[str, object]:
    batch, steps, predictions = (torch.export.Dim(name, min=1) for name in ("batch", "steps", "predictions"))
    rows: dict[str, object] = {"numeric": {0: batch}, "categorical": {0: batch}}
    if not spec.has_steps:
        return rows
    of_steps = {"step_numeric": {0: batch, 1: steps}, "step_categorical": {0: batch, 1: steps}}
    return {**rows, **of_steps, "length": {0: batch}, "position": {0: predictions}}

"""A model's outputs for encoded rows, and the columns that people read.

Axes: N rows (or sequences), M steps of sequences, P predictions, L label columns, O outputs, C classes or labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mtlsearch.config import Task
from mtlsearch.data import DataSchema, Split
from mtlsearch.errors import ConfigError
from mtlsearch.export.encode import unlabelled
from mtlsearch.models import Inputs, MultiTaskModel
from mtlsearch.train.block import block_of
from mtlsearch.train.evaluate import EVALUATION_BATCH
from mtlsearch.train.order import in_order
from mtlsearch.train.take import take
from mtlsearch.train.targets import Targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Outputs:
    """Logits, and regressions in original units; NaN where a sequence ends before its label's step."""

    of_rows_NO: NDArray[np.float64]
    """Of all tasks; those of a task with a label a step are NaN."""
    of_steps_MO: NDArray[np.float64] | None = None
    """The other way round; None where no task has a label a step."""
    offset_N: NDArray[np.int64] | None = None
    """int64 [N + 1]: sequence n's steps are offset[n] … offset[n + 1] - 1."""


class Scale(nn.Module):
    """outputs_PO as a model gives them → float64, regressions in original units."""

    mean_O: Tensor
    std_O: Tensor

    def __init__(self, schema: DataSchema, tasks: Sequence[Task]) -> None:
        super().__init__()
        known = zip(schema.tasks, schema.label_mean, schema.label_std, strict=True)
        scales = {task.name: (mean, std) for task, mean, std in known}
        wide = [scales[task.name] for task in tasks for _ in range(task.num_outputs)]
        mean_O, std_O = torch.tensor(wide, dtype=torch.float64).unbind(1)
        self.register_buffer("mean_O", mean_O.clone())
        self.register_buffer("std_O", std_O.clone())

    def forward(self, outputs_PO: Tensor) -> Tensor:
        """float64 [P, O]."""
        return outputs_PO.float().double() * self.std_O + self.mean_O


class Runner:
    """Runs a model over encoded rows, in batches like those that scored it."""

    def __init__(self, model: MultiTaskModel, schema: DataSchema, tasks: tuple[Task, ...]) -> None:
        self._model, self._schema, self._tasks = model.eval(), schema, tasks
        self._scale = Scale(schema, tasks)
        self._targets = Targets.of(schema, tasks, CPU)

    @torch.no_grad()
    def outputs(self, split: Split) -> Outputs:
        """Of every row, in order; the split's labels are not looked at."""
        return self._of_rows(split) if split.steps is None else self._of_sequences(unlabelled(split, self._schema))

    def _of_rows(self, split: Split) -> Outputs:
        block = block_of(split)
        of_rows_NO = np.empty((split.num_rows, self._num_outputs))
        for start in range(0, split.num_rows, EVALUATION_BATCH):
            rows = slice(start, start + EVALUATION_BATCH)
            outputs_BO = self._model(Inputs(block.numeric_NF[rows], block.categorical_NC[rows]))
            of_rows_NO[rows] = self._scale(outputs_BO).numpy()
        return Outputs(of_rows_NO)

    def _of_sequences(self, split: Split) -> Outputs:
        """Labels are all there, and 0: where `take` lets one count is where the task is predicted."""
        block = block_of(split)
        assert block.steps is not None
        assert block.lengths is not None
        offset_N = block.steps.offset_N
        of_rows_NO = np.full((split.num_rows, self._num_outputs), np.nan)
        of_steps_MO = np.full((int(offset_N[-1]), self._num_outputs), np.nan) if self._targets.per_step else None
        length_N = block.lengths.clamp(max=self._targets.most_steps)
        for rows_B in in_order(split.num_rows, length_N, EVALUATION_BATCH, 1) if split.num_rows else ():
            assert isinstance(rows_B, Tensor)
            batch = take(self._targets, block, rows_B)
            assert batch.row_P is not None
            assert batch.inputs.steps is not None
            outputs_PO = self._scale(self._model(batch.inputs)).numpy()
            row_P = rows_B[batch.row_P]
            step_P = offset_N[row_P] + batch.inputs.steps.position_P % batch.inputs.steps.numeric_BTS.shape[1]
            wanted_PL = ~batch.labels_PL.isnan()
            for task, columns, label in self._spans():
                at_P = wanted_PL[:, label]
                if not task.per_step:
                    of_rows_NO[row_P[at_P].numpy(), columns] = outputs_PO[at_P.numpy(), columns]
                elif of_steps_MO is not None:
                    of_steps_MO[step_P[at_P].numpy(), columns] = outputs_PO[at_P.numpy(), columns]
        return Outputs(of_rows_NO, of_steps_MO, offset_N.numpy())

    def _spans(self) -> Iterator[tuple[Task, slice, int]]:
        """Each task, its columns of the O outputs, and the first of its L label columns."""
        output = label = 0
        for task in self._tasks:
            yield task, slice(output, output + task.num_outputs), label
            output, label = output + task.num_outputs, label + task.num_labels

    @property
    def _num_outputs(self) -> int:
        return sum(task.num_outputs for task in self._tasks)


def column_names(tasks: Sequence[Task]) -> list[str]:
    """The predictions' columns, in order. Raises ConfigError where two would have one name."""
    names = [name for task in tasks for name in _names(task)]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ConfigError(f"every column of the predictions has its own name, but {twice[0]!r} is there twice.")
    return names


def _names(task: Task) -> list[str]:
    each = [f"{task.name}/{name}" for name in task.classes]
    match task.kind:
        case "multiclass":
            return [task.name, *each]
        case "multilabel":
            return each
        case _:
            return [task.name]


def prediction_columns(tasks: Sequence[Task], outputs: Outputs) -> list[Any]:
    """pyarrow Arrays [N] beside `column_names`: probabilities, classes, numbers in original units.

    A task with a label a step has a list a sequence, one value a step. Null is where a sequence ends before the step
    at which its label is predicted.
    """
    columns, first = [], 0
    for task in tasks:
        of_task = slice(first, first + task.num_outputs)
        if not task.per_step:
            columns += _columns(task, outputs.of_rows_NO[:, of_task])
        else:
            assert outputs.of_steps_MO is not None
            columns += [_lists(each, outputs) for each in _columns(task, outputs.of_steps_MO[:, of_task])]
        first += task.num_outputs
    return columns


def _columns(task: Task, values_NC: NDArray[np.float64]) -> list[Any]:
    match task.kind:
        case "regression":
            return [_floats(values_NC[:, 0])]
        case "binary" | "multilabel":
            return [_floats(values_N) for values_N in _sigmoid(values_NC).T]
        case _:
            chances_NC = _softmax(values_NC)
            return [_classes(task, values_NC), *(_floats(chance_N) for chance_N in chances_NC.T)]


def _classes(task: Task, logits_NC: NDArray[np.float64]) -> Any:
    """Strings [N]: the class with the highest probability."""
    import pyarrow as pa

    # NaN is a sequence without a prediction; argmax of it would be a class.
    missing_N = np.isnan(logits_NC).any(axis=1)
    best_N = np.where(missing_N, 0, np.nan_to_num(logits_NC).argmax(axis=1)).astype(np.int32)
    indices = pa.array(best_N, mask=missing_N)
    return pa.DictionaryArray.from_arrays(indices, pa.array(task.classes, pa.string())).cast(pa.string())


def _floats(values_N: NDArray[np.float64]) -> Any:
    import pyarrow as pa

    return pa.array(np.ascontiguousarray(values_N), pa.float64(), from_pandas=True)


def _lists(array: Any, outputs: Outputs) -> Any:
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array(outputs.offset_N, pa.int32()), array)


def _sigmoid(values_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = torch.from_numpy(values_NC).sigmoid().numpy()
    return chances


def _softmax(values_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = torch.from_numpy(values_NC).softmax(1).numpy()
    return chances

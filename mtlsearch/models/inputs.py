"""What a model reads: numeric columns as they are, categorical columns through embeddings; rows or sequences.

Axes: B batch, F numeric columns, C categorical columns, T steps of the longest sequence, S numeric and D
categorical columns a step, P predictions (the rows of a table, or the steps of sequences at which an output is
wanted), I inputs in all, N independent networks, n categories of a column, d units of its embedding, M = B·T.
Every x_…I has a leading N where networks have embeddings of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StepInputs(NamedTuple):
    """The sequences of a batch, padded behind their ends to the longest one."""

    numeric_BTS: Tensor
    """float32, already encoded; 0 in the padding."""

    categorical_BTD: Tensor
    """Integer indices; 0 in the padding."""

    length_B: Tensor
    """int64: steps of each sequence, at least 1."""

    position_P: Tensor
    """int64: where outputs are wanted, as b·T + t; never in the padding."""


class Inputs(NamedTuple):
    """One batch."""

    numeric_BF: Tensor
    """float32, already encoded."""

    categorical_BC: Tensor
    """Integer indices; 0 is the unknown category."""

    steps: StepInputs | None = None
    """None where a row is not a sequence; then every row has one prediction."""


@dataclass(frozen=True)
class InputSpec:
    """The columns of a data set."""

    num_numeric: int
    cardinalities: tuple[int, ...]
    """Of each categorical column: how many indices there are, the unknown's 0 included."""
    num_step_numeric: int = 0
    step_cardinalities: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        columns = self.num_numeric + len(self.cardinalities) + self.num_step_numeric + len(self.step_cardinalities)
        assert columns > 0, "a model needs at least one column"
        assert all(n > 0 for n in self.cardinalities + self.step_cardinalities), "an empty category list"

    @property
    def has_steps(self) -> bool:
        """Whether a row is a sequence."""
        return self.num_step_numeric + len(self.step_cardinalities) > 0


class Features(NamedTuple):
    """What gates, experts and their kin read. A row of a table is a sequence of one step."""

    at_PI: Tensor
    """All inputs at the predictions: the row's own, then the step's."""

    steps_BTI: Tensor | None
    """The steps' own inputs at all steps; None when nothing that was built reads them. Of a table: its rows."""

    rows_PI: Tensor | None
    """Where whole sequences are read: the row's own inputs at the predictions, None when it has none."""

    position_P: Tensor | None
    """Where the predictions lie in the flattened B·T; None for a table, whose rows they are."""


EMBEDDING_STD = 0.05
"""Of new embeddings, normal with mean 0. nn.Embedding's 1 drowns the numeric columns: AUROC .9505 against .9522 on
census's income."""


def embedding_size(cardinality: int) -> int:
    """Units for a column of that many categories: a rule of thumb that fast.ai made common."""
    return min(50, round(1.6 * math.pow(cardinality, 0.56)))


def embedding_table(cardinality: int, num_networks: int, generator: torch.Generator) -> nn.Parameter:
    """Normal, but the unknown starts at zero: unseen in training, it adds nothing."""
    shape = (cardinality, num_networks, embedding_size(cardinality))
    table_nNd = torch.empty(shape, device=generator.device).normal_(std=EMBEDDING_STD, generator=generator)
    table_nNd[0] = 0
    return nn.Parameter(table_nNd)


class Embeddings(nn.Module):
    """Categorical columns' embeddings, side by side, for N networks that share none of them.

    A column's N tables are one table of N·d units, so that a column is one look-up whatever N.
    """

    def __init__(self, cardinalities: tuple[int, ...], num_networks: int, generator: torch.Generator) -> None:
        super().__init__()
        self.tables = nn.ParameterList(embedding_table(n, num_networks, generator) for n in cardinalities)
        self.num_units = sum(embedding_size(n) for n in cardinalities)

    def forward(self, categorical_BC: Tensor) -> list[Tensor]:
        """One tensor [B, N, d] a column."""
        return [
            F.embedding(index_B, table_nNd.flatten(1)).view(-1, *table_nNd.shape[1:])
            for table_nNd, index_B in zip(self.tables, categorical_BC.unbind(1), strict=True)
        ]


class InputLayer(nn.Module):
    """Columns and embeddings side by side: a row's, followed at every step by the step's own.

    Args:
        reads_steps: whether what follows reads whole sequences, not the steps of the predictions alone.
        num_networks: how many networks have embeddings of their own; None for one without the N axis.
    """

    def __init__(
        self,
        spec: InputSpec,
        generator: torch.Generator,
        *,
        reads_steps: bool,
        num_networks: int | None = None,
    ) -> None:
        super().__init__()
        self.reads_steps, self.num_networks = reads_steps, num_networks
        self.embeddings = Embeddings(spec.cardinalities, num_networks or 1, generator)
        self.step_embeddings = Embeddings(spec.step_cardinalities, num_networks or 1, generator)
        of_rows = spec.num_numeric + self.embeddings.num_units
        of_steps = spec.num_step_numeric + self.step_embeddings.num_units
        self.num_units = of_rows + of_steps
        """I of `at_PI`."""
        self.num_step_units, self.num_row_units = (of_steps, of_rows) if spec.has_steps else (of_rows, 0)
        """I of `steps_BTI` and of `rows_PI`."""

    def forward(self, inputs: Inputs) -> Features:
        rows_BI = self._encoded(self.embeddings, inputs.numeric_BF, inputs.categorical_BC)
        if inputs.steps is None:
            return Features(rows_BI, rows_BI.unsqueeze(-2) if self.reads_steps else None, None, None)
        steps, num_steps = inputs.steps, inputs.steps.numeric_BTS.shape[1]
        rows_PI = rows_BI.index_select(-2, steps.position_P // num_steps)
        if not self.reads_steps:  # then the other steps are never embedded
            return Features(torch.cat([rows_PI, self._at(steps)], dim=-1), None, None, steps.position_P)
        numeric_MS, categorical_MD = steps.numeric_BTS.flatten(0, 1), steps.categorical_BTD.flatten(0, 1)
        steps_MI = self._encoded(self.step_embeddings, numeric_MS, categorical_MD)
        at_PI = torch.cat([rows_PI, steps_MI.index_select(-2, steps.position_P)], dim=-1)
        steps_BTI = steps_MI.reshape(*steps_MI.shape[:-2], -1, num_steps, self.num_step_units)
        return Features(at_PI, steps_BTI, rows_PI if self.num_row_units else None, steps.position_P)

    def _at(self, steps: StepInputs) -> Tensor:
        """The steps' own inputs at the predictions."""
        numeric_PS = steps.numeric_BTS.flatten(0, 1).index_select(0, steps.position_P)
        categorical_PD = steps.categorical_BTD.flatten(0, 1).index_select(0, steps.position_P)
        return self._encoded(self.step_embeddings, numeric_PS, categorical_PD)

    def _encoded(self, embeddings: Embeddings, numeric_BF: Tensor, categorical_BC: Tensor) -> Tensor:
        """x_BI, or x_NBI."""
        columns = embeddings(categorical_BC)
        if self.num_networks is None:
            return torch.cat([numeric_BF, *(column_B1d.flatten(1) for column_B1d in columns)], dim=1)
        numeric_BNF = numeric_BF.unsqueeze(1).expand(-1, self.num_networks, -1)
        return torch.cat([numeric_BNF, *columns], dim=2).transpose(0, 1)

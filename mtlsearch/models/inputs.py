"""What a model reads: numeric columns as they are, categorical columns through embeddings.

Axes: B batch, F numeric columns, C categorical columns, D embedding units of all columns together, I = F + D,
N independent networks, n categories of a column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Inputs(NamedTuple):
    """One batch."""

    numeric_BF: Tensor
    """float32, already encoded."""

    categorical_BC: Tensor
    """Integer indices; 0 is the unknown category."""


@dataclass(frozen=True)
class InputSpec:
    """The columns of a data set."""

    num_numeric: int
    cardinalities: tuple[int, ...]
    """Of each categorical column: how many indices there are, the unknown's 0 included."""

    def __post_init__(self) -> None:
        assert self.num_numeric + len(self.cardinalities) > 0, "a model needs at least one column"
        assert all(n > 0 for n in self.cardinalities), f"an empty category list: {self.cardinalities}"


def embedding_size(cardinality: int) -> int:
    """Units for a column of that many categories: a rule of thumb that fast.ai made common."""
    return min(50, round(1.6 * math.pow(cardinality, 0.56)))


def embedding_table(cardinality: int, num_networks: int, generator: torch.Generator) -> nn.Parameter:
    """Unit normal like nn.Embedding, but the unknown starts at zero: unseen in training, it adds nothing."""
    shape = (cardinality, num_networks, embedding_size(cardinality))
    table_nNd = torch.empty(shape, device=generator.device).normal_(generator=generator)
    table_nNd[0] = 0
    return nn.Parameter(table_nNd)


class Embeddings(nn.Module):
    """The categorical columns' embeddings, side by side, for N networks that share none of them.

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
    """Numeric columns and embeddings in one row."""

    def __init__(self, spec: InputSpec, generator: torch.Generator) -> None:
        super().__init__()
        self.embeddings = Embeddings(spec.cardinalities, 1, generator)
        self.num_units = spec.num_numeric + self.embeddings.num_units

    def forward(self, inputs: Inputs) -> Tensor:
        """x_BI."""
        embedded = [column_B1d.flatten(1) for column_B1d in self.embeddings(inputs.categorical_BC)]
        return torch.cat([inputs.numeric_BF, *embedded], dim=1)

"""Recurrent experts, E networks over whole sequences; what one gives at a step depends on no later step.

GRU: Cho et al., EMNLP 2014, 10.3115/v1/D14-1179; LSTM: Hochreiter and Schmidhuber, 10.1162/neco.1997.9.8.1735;
plain: Elman, 10.1207/s15516709cog1402_1. The equations, and which weights there are, are those of torch.nn.GRU,
LSTM and RNN (tanh). Padding lies behind a sequence's end, so nothing that is read has seen it, and nothing is packed.
The functional forms take the weights as arguments: a torch.nn.GRU under `functional_call` can go on with its own.

Axes: B batch, T steps, P predictions, I inputs, E experts, H hidden units, L layers, G gates, W weights of an expert.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mtlsearch.models.inputs import Features
from mtlsearch.models.linear import Dropout, linear_parameter

Cell = Literal["gru", "lstm", "rnn"]
NUM_GATES: dict[Cell, int] = {"gru": 3, "lstm": 4, "rnn": 1}


class RecurrentExperts(nn.Module):
    """E networks of L layers of H units; dropout between layers and after the last.

    E calls, one an expert: on a CPU that is faster than a batch of experts at each step.

    Args:
        sizes: (I, H, …, H), one H a layer.
    """

    def __init__(
        self, cell: Cell, num_experts: int, sizes: tuple[int, ...], dropout: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.cell, self.hidden, self.num_layers = cell, sizes[-1], len(sizes) - 1
        self.shapes = weight_shapes(NUM_GATES[cell], sizes)
        num_weights = sum(shape.numel() for shape in self.shapes)
        # One tensor an expert, matrices before biases: cuDNN reads it as it lies, and copies any other.
        self.weights = nn.ParameterList(
            linear_parameter((num_weights,), self.hidden, generator) for _ in range(num_experts)
        )
        self.dropout = Dropout(dropout)

    def forward(self, features: Features) -> Tensor:
        """f_EPH. The steps are [B, T, I], or [E, B, T, I] where each expert has its own."""
        x_BTI, position_P = features.steps_BTI, features.position_P
        assert x_BTI is not None, "recurrent experts read whole sequences"
        x_TBI = x_BTI.transpose(-3, -2).contiguous()
        num_steps, batch = x_TBI.shape[-3:-1]
        index_P = None if position_P is None else position_P % num_steps * batch + position_P // num_steps
        inputs = x_TBI.unbind() if x_TBI.dim() == 4 else [x_TBI] * len(self.weights)
        outputs = []
        for weight_W, own_TBI in zip(self.weights, inputs, strict=True):
            h_MH = self._run(own_TBI, weight_W).flatten(0, 1)
            outputs.append(h_MH if index_P is None else h_MH.index_select(0, index_P))
        f_EPH: Tensor = self.dropout(torch.stack(outputs))
        return f_EPH

    def _run(self, x_TBI: Tensor, weight_W: Tensor) -> Tensor:
        """h_TBH of the last layer."""
        h_LBH = x_TBI.new_zeros(self.num_layers, x_TBI.shape[1], self.hidden)
        dropout, training = self.dropout.p, self.training
        pieces = torch.split(weight_W, [shape.numel() for shape in self.shapes])
        flat = [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]
        weights, biases = flat[: len(flat) // 2], flat[len(flat) // 2 :]
        params = [p for i in range(0, len(weights), 2) for p in (*weights[i : i + 2], *biases[i : i + 2])]
        match self.cell:
            case "gru":
                return torch.gru(x_TBI, h_LBH, params, True, self.num_layers, dropout, training, False, False)[0]
            case "lstm":
                state = [h_LBH, h_LBH]
                return torch.lstm(x_TBI, state, params, True, self.num_layers, dropout, training, False, False)[0]
            case "rnn":
                return torch.rnn_tanh(x_TBI, h_LBH, params, True, self.num_layers, dropout, training, False, False)[0]


def weight_shapes(num_gates: int, sizes: tuple[int, ...]) -> list[torch.Size]:
    """Of one expert's weights: each layer's [G·H, I] and [G·H, H], then each layer's two biases [G·H]."""
    rows = num_gates * sizes[-1]
    matrices = [torch.Size((rows, columns)) for below in sizes[:-1] for columns in (below, sizes[-1])]
    return matrices + [torch.Size((rows,))] * len(matrices)

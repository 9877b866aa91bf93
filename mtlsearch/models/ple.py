"""Progressive layered extraction; with one level, customised gate control (CGC).

Tang, Liu, Zhao, Gong, "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
Recommendations", RecSys 2020, 10.1145/3383313.3412236. Eq. 2 to 5: task k mixes its own m_k experts and the m_s shared
ones, g^k(x) = softmax(W^k x) S^k(x), y_k = t^k(g^k(x)). Eq. 6 and 7, at a deeper level j: g^{k,j} = w^{k,j}(g^{k,j−1})
S^{k,j}; all levels but the last have a shared gate too, which sees all experts. Figure 5: at a deeper level task k's
experts read g^{k,j−1}, the shared ones what the shared gate gave.
Where we deviate: all tasks have the same number of experts; an expert may have several layers (of any kind: a
transformer's or a TCN's begin anew at each level, with positions and with dilation 1); dropout, expert dropout and
embeddings as in MMoE; no weights of tasks that follow the epochs (eq. 10), which is a balancer's matter. Of whole
sequences, gates of all levels but the last read every step: its own inputs, or the state there; the last level's read
at the predictions, and where it is the first as well, the row's columns too. The row's columns join each expert of the
last level, and reach no gate of several levels.

Axes: P predictions, M positions, I inputs, K tasks, E experts of a level (task 0's, task 1's, …, then the shared ones),
S experts that a task sees, Q states of a level (the tasks', then the shared one), H hidden units, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlsearch.config import PleConfig, Task
from mtlsearch.models.base import Mixture, MultiTaskModel
from mtlsearch.models.experts import build_join, build_layer
from mtlsearch.models.gates import Gates, mix, mix_one
from mtlsearch.models.inputs import Inputs, InputSpec, build_inputs
from mtlsearch.models.positions import Positions
from mtlsearch.models.towers import build_towers


class Ple(MultiTaskModel):
    """Levels of task experts and shared experts, each level on what the gates of the one below gave."""

    def __init__(
        self, config: PleConfig, inputs: InputSpec, tasks: tuple[Task, ...], generator: torch.Generator
    ) -> None:
        super().__init__(tasks)
        self.inputs = build_inputs(config, inputs, generator)
        levels = range(config.num_levels)
        num_inputs = [self.inputs.num_entry_units] + [config.hidden] * (config.num_levels - 1)
        self.experts = nn.ModuleList(
            LevelExperts(config, len(tasks), num_inputs[j], generator, first=j == 0) for j in levels
        )
        self.join = build_join(config, num_all(config, len(tasks)), self.inputs, generator)
        if config.num_levels == 1:
            num_inputs = [self.inputs.num_units]
        self.gates = nn.ModuleList(
            LevelGates(config, len(tasks), num_inputs[j], generator, first=j == 0, last=j == levels[-1]) for j in levels
        )
        self.towers = build_towers(config, self.widths, generator)

    def forward(self, inputs: Inputs) -> Tensor:
        """outputs_PO."""
        gate_PKE, f_EPH = self.mixture(inputs)
        outputs_PO: Tensor = self.towers(mix(gate_PKE, f_EPH))
        return outputs_PO

    def of_task(self, task: int, inputs: Inputs) -> Tensor:
        """Its gate of the last level and its tower on all experts."""
        gate_PKE, f_EPH = self.mixture(inputs)
        return self.towers.of_task(task, mix_one(gate_PKE[:, task : task + 1], f_EPH))

    def mixture(self, inputs: Inputs) -> Mixture:
        """The last level's gates and experts; in training with expert dropout."""
        features = self.inputs(inputs)
        state = features.entry_MI
        for experts, gates in zip(self.experts[:-1], self.gates[:-1], strict=True):
            state = mix(gates(state), experts(state, features.positions))
        f_EPH = features.positions.at_predictions(self.experts[-1](state, features.positions))
        if self.join is not None:
            f_EPH = self.join(f_EPH, features.rows_PI)
        one_level = len(self.experts) == 1
        read = features.at_PI if one_level else features.positions.at_predictions(state)
        return Mixture(self.gates[-1](read), f_EPH)


def num_all(config: PleConfig, num_tasks: int) -> int:
    """E."""
    return num_tasks * config.num_task_experts + config.num_shared_experts


class LevelExperts(nn.Module):
    """All experts of a level; of a deeper one, each reads its owner's state."""

    owner_E: Tensor | None

    def __init__(
        self, config: PleConfig, num_tasks: int, num_inputs: int, generator: torch.Generator, *, first: bool
    ) -> None:
        super().__init__()
        num_experts = num_all(config, num_tasks)
        sizes = [num_inputs] + [config.hidden] * (config.expert.num_layers - 1)
        self.layers = nn.ModuleList(
            build_layer(config, num_experts, size, generator, depth=depth, own_inputs=depth > 0 or not first)
            for depth, size in enumerate(sizes)
        )
        own = torch.arange(num_tasks).repeat_interleave(config.num_task_experts)
        owner_E = torch.cat([own, torch.full((config.num_shared_experts,), num_tasks)])
        self.register_buffer("owner_E", None if first else owner_E, persistent=False)

    def forward(self, state: Tensor, positions: Positions) -> Tensor:
        """f_EMH of x_MI, or of state_QMH."""
        f_EMH = state if self.owner_E is None else state.index_select(0, self.owner_E)
        for layer in self.layers:
            f_EMH = layer(f_EMH, positions)
        return f_EMH


class LevelGates(nn.Module):
    """A gate for each task, over the experts that it sees, and the shared one, which the last level lacks."""

    seen_KS: Tensor

    def __init__(
        self,
        config: PleConfig,
        num_tasks: int,
        num_inputs: int,
        generator: torch.Generator,
        *,
        first: bool,
        last: bool,
    ) -> None:
        super().__init__()
        kind, dropout = Gates if first else StateGates, config.expert_dropout
        self.num_tasks, self.num_experts = num_tasks, num_all(config, num_tasks)
        own_KS = torch.arange(num_tasks * config.num_task_experts).view(num_tasks, -1)
        shared_S = torch.arange(own_KS.numel(), self.num_experts)
        self.register_buffer("seen_KS", torch.cat([own_KS, shared_S.expand(num_tasks, -1)], 1), persistent=False)
        self.of_tasks = kind(num_tasks, self.seen_KS.shape[1], num_inputs, generator, expert_dropout=dropout)
        self.shared = None if last else kind(1, self.num_experts, num_inputs, generator, expert_dropout=dropout)
        self.first = first

    def forward(self, state: Tensor) -> Tensor:
        """gate_PQE of x_PI, or of state_QPH; exactly 0 for another task's experts."""
        of_tasks = state if self.first else state[: self.num_tasks]
        gate_PKS: Tensor = self.of_tasks(of_tasks)
        zeros_PKE = gate_PKS.new_zeros(gate_PKS.shape[0], self.num_tasks, self.num_experts)
        # A softmax over the open logits is the one over all with the closed at -inf, without weights that never learn.
        gate_PKE = zeros_PKE.scatter(2, self.seen_KS.expand_as(gate_PKS), gate_PKS)
        if self.shared is None:
            return gate_PKE
        gate_P1E = self.shared(state if self.first else state[self.num_tasks :])
        return torch.cat([gate_PKE, gate_P1E], dim=1)


class StateGates(Gates):
    """Gates that read a state each."""

    def forward(self, x_KPI: Tensor, open_KE: Tensor | None = None) -> Tensor:
        """gate_PKE."""
        return self.weights(torch.bmm(self.weight_KEI, x_KPI.transpose(1, 2)), open_KE)

"""What can be chosen about a model: one config per architecture, one per expert kind.

All architectures share `hidden` (width of the representation that reaches the towers), `expert` (what computes
it), `dropout` and the towers' shape, so that a comparison between them changes the sharing and nothing else.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mtlsearch.config.base import Config, Search


class DenseConfig(Config):
    """Fully connected layers with ReLU."""

    kind: Literal["dense"] = "dense"
    num_layers: Annotated[int, Field(ge=1, le=4), Search({"int": [1, 3]})] = 1
    """Layers of `hidden` units each."""

    reads_steps: ClassVar[bool] = False
    """Of a sequence, it reads the step of the prediction alone."""


class _Recurrent(Config):
    num_layers: Annotated[int, Field(ge=1, le=3), Search({"int": [1, 2]})] = 1
    """Layers of `hidden` units each."""

    reads_steps: ClassVar[bool] = True
    """It reads a sequence up to the step of the prediction. A row of a table is a sequence of one step."""


class GruConfig(_Recurrent):
    """Gated recurrent units (Cho et al., EMNLP 2014, 10.3115/v1/D14-1179)."""

    kind: Literal["gru"] = "gru"


class LstmConfig(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, 10.1162/neco.1997.9.8.1735)."""

    kind: Literal["lstm"] = "lstm"


class RnnConfig(_Recurrent):
    """A plain recurrent network with tanh (Elman 1990, 10.1207/s15516709cog1402_1)."""

    kind: Literal["rnn"] = "rnn"


ExpertConfig = Annotated[DenseConfig | GruConfig | LstmConfig | RnnConfig, Field(discriminator="kind")]


class _Architecture(Config):
    hidden: Annotated[int, Field(ge=1, le=4096), Search({"choice": [32, 64, 128, 256]})] = 64
    """Units of each expert's layers, and so of the representation that a tower reads."""

    expert: ExpertConfig = DenseConfig()
    """What an expert is made of."""

    dropout: Annotated[float, Field(ge=0, lt=1), Search({"float": [0.0, 0.3], "step": 0.1})] = 0.0
    """Share of units dropped after every hidden layer, in experts and towers."""

    tower_layers: Annotated[int, Field(ge=0, le=4)] = 1
    """Hidden layers of each task's tower; 0 leaves the output layer alone."""

    tower_hidden: Annotated[int, Field(ge=1, le=4096)] = 32
    """Units of a tower's hidden layers."""

    def infeasible(self, num_tasks: int) -> str | None:
        """Why this architecture cannot serve `num_tasks` tasks, or None when it can."""
        return None


class SingleTaskConfig(_Architecture):
    """One independent network a task: the reference that Δ is measured against."""

    kind: Literal["single_task"] = "single_task"


class SharedBottomConfig(_Architecture):
    """One expert that all tasks read (Caruana 1993)."""

    kind: Literal["shared_bottom"] = "shared_bottom"


class MMoEConfig(_Architecture):
    """Multi-gate mixture of experts (Ma et al., KDD 2018, 10.1145/3219819.3220007)."""

    kind: Literal["mmoe"] = "mmoe"
    num_experts: Annotated[int, Field(ge=1, le=256), Search({"int": [2, 16], "log": True})] = 4
    """Experts that all tasks can read."""


class MMoEExConfig(_Architecture):
    """MMoE whose experts are partly closed to tasks (Aoki et al., arXiv 2106.10595)."""

    kind: Literal["mmoeex"] = "mmoeex"
    num_experts: Annotated[int, Field(ge=1, le=256), Search({"int": [2, 16], "log": True})] = 4
    """Experts in all, exclusive ones included."""

    alpha: Annotated[float, Field(ge=0, le=1), Search({"float": [0.0, 1.0], "step": 0.125})] = 0.5
    """Share of the experts that are exclusive (or excluded): ⌊alpha · num_experts⌋ of them."""

    exclusivity: Literal["exclusivity", "exclusion"] = "exclusivity"
    """`exclusivity`: such an expert is open to one task only; `exclusion`: closed to one task only."""

    @property
    def num_closed(self) -> int:
        """How many experts are exclusive (or excluded)."""
        return int(self.alpha * self.num_experts + 1e-9)  # 0.7 · 10 must be 7, not 6

    def infeasible(self, num_tasks: int) -> str | None:
        """All experts exclusive and fewer of them than tasks leaves a task with every gate closed."""
        num_open = self.num_experts - self.num_closed
        if self.exclusivity == "exclusivity" and num_open == 0 and self.num_experts < num_tasks:
            return (
                f"every task needs an open expert, but alpha {self.alpha} makes all {self.num_experts} experts "
                f"exclusive and there are {num_tasks} tasks. Lower alpha, or give num_experts at least {num_tasks}."
            )
        if self.exclusivity == "exclusion" and num_open == 0 and (num_tasks == 1 or self.num_experts == 1):
            return "a task is left without any expert when every expert is closed to it. Lower alpha below 1."
        return None


ArchitectureConfig = Annotated[
    SingleTaskConfig | SharedBottomConfig | MMoEConfig | MMoEExConfig, Field(discriminator="kind")
]

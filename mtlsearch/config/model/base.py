"""What all architectures share, so that a comparison between them changes the sharing and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mtlsearch.config.base import Config, Search
from mtlsearch.config.model.experts import DenseConfig, ExpertConfig
from mtlsearch.config.model.regularizer import DeepRelationConfig, NoRegularizerConfig, RegularizerConfig
from mtlsearch.config.task import Task


@dataclass(frozen=True)
class Served:
    """What a model is to serve, as far as it is known."""

    tasks: tuple[Task, ...]
    """Their classes are empty until the data has been read."""
    has_steps: bool
    """Whether rows are sequences."""
    categories: Mapping[str, int] | None = None
    """Categorical column of a row → how many categories training knows of; None until the data has been read."""
    num_columns: int | None = None
    """Of rows and steps together; None until the data has been read."""

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)


class Architecture(Config, ABC):
    """Inputs, towers, and what lies between them in each kind's own way."""

    kind: str
    dropout: Annotated[float, Field(ge=0, lt=1), Search({"float": [0.0, 0.5], "step": 0.1})] = 0.0
    """Share of units dropped after every hidden layer, in experts and towers."""

    embedding_size: Annotated[int, Field(ge=1, le=512)] | Literal["rule"] = "rule"
    """Units of each categorical column's embedding; `rule` takes 1.6·n^.56 for n categories, at most 50."""

    tower_layers: Annotated[int, Field(ge=0, le=4)] = 1
    """Hidden layers of each task's tower; 0 leaves the output layer alone."""

    tower_hidden: Annotated[int, Field(ge=1, le=4096)] = 32
    """Units of a tower's hidden layers."""

    regularizer: RegularizerConfig = NoRegularizerConfig()
    """What the towers' weights are held to."""

    towers_of_their_own: ClassVar[str] = "`tower_layers: 1`"
    """What to write so that each task has a hidden layer of its own."""

    needs_steps: ClassVar[bool] = False
    """Whether it can serve sequences only."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Units of the representation that a tower reads."""

    @property
    @abstractmethod
    def reads_steps(self) -> bool:
        """Whether whole sequences are read, not the steps of the predictions alone."""

    @property
    def own_tower_layers(self) -> int:
        """Hidden layers that each task has of its own."""
        return self.tower_layers

    def infeasible(self, served: Served) -> str | None:
        """Why this configuration cannot serve what it is to serve, or None when it can."""
        if served.categories is not None and (empty := [t.name for t in served.tasks if t.num_outputs == 0]):
            return (
                f"every task needs an output, but {', '.join(map(repr, empty))} has none: its training rows have no "
                "class or label. Leave it out of `data.tasks`, or give it labels."
            )
        widths = sorted({task.num_outputs for task in served.tasks})
        uneven = 0 < widths[0] < widths[-1]
        if isinstance(self.regularizer, DeepRelationConfig) and self.own_tower_layers == 0 and uneven:
            return (
                "deep_relation compares layers of one shape, but each task has its output layer alone, and those have "
                f"{' and '.join(map(str, widths))} outputs. Write {self.towers_of_their_own}, or `regularizer: none`."
            )
        if self.needs_steps and not served.has_steps:
            return f"{self.kind} reads sequences, but this data has none, only rows. Take another architecture."
        return None


class _Layers(Config):
    """Stands after `Architecture` among the bases, so that its fields come first where fields are listed."""

    hidden: Annotated[int, Field(ge=1, le=4096), Search({"choice": [32, 64, 128, 256]})] = 64
    """Units of each expert's layers, and so of the representation that a tower reads."""

    expert: ExpertConfig = DenseConfig()
    """What an expert, or a layer, is made of."""


class Layered(Architecture, _Layers):
    """Architectures of layers that any kind of expert can make."""

    @property
    def width(self) -> int:
        return self.hidden

    @property
    def reads_steps(self) -> bool:
        return self.expert.reads_steps

    def infeasible(self, served: Served) -> str | None:
        if self.expert.reads_steps and not served.has_steps:
            return (
                f"expert kind {self.expert.kind} reads sequences, but this data has none, only rows. "
                "Write `expert: dense`."
            )
        if self.expert.kind == "transformer" and self.hidden % self.expert.num_heads:
            return (
                f"the transformer's heads must divide hidden, but {self.expert.num_heads} does not divide "
                f"{self.hidden}. Change one of them."
            )
        return super().infeasible(served)


NumExperts = Annotated[int, Field(ge=1, le=256), Search({"int": [2, 16], "log": True})]
ExpertDropout = Annotated[float, Field(ge=0, lt=1), Search({"float": [0.0, 0.3], "step": 0.1})]

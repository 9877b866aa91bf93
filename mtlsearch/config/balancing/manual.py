"""Weights by hand, or by search."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mtlsearch.config.base import Config, Search

Weight = Annotated[float, Field(gt=0, le=1e6)]


class TaskWeight(Config):
    """One task's weight: what a space file may say under its name."""

    weight: Weight


class TaskWeights(Config):
    """Task → weight; any task that is not named weighs 1."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Weight]

    @property
    def names(self) -> frozenset[str]:
        """The tasks that are named."""
        extra: dict[str, Any] = self.__pydantic_extra__
        return frozenset(extra)

    def of(self, task: str) -> float:
        """A task's weight."""
        extra: dict[str, Any] = self.__pydantic_extra__
        return float(extra.get(task, 1.0))


class ManualConfig(Config):
    """A weight a task, fixed or searched."""

    kind: Literal["manual"] = "manual"
    weights: Annotated[TaskWeights, Search({"float": [0.01, 100.0], "log": True})]
    """Task → weight, or a range such as {float: [0.01, 100.0], log: true}; this one for each task of the data where
    `manual` is only named."""

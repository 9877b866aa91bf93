"""The sections of a space file as one model. `space:` itself is read by `build`, which knows domains."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from mtlsearch.config import (
    BudgetConfig,
    Config,
    DataConfig,
    FinalConfig,
    ObjectiveConfig,
    ResourcesConfig,
    SearchConfig,
    TrackingConfig,
)


def _is_a_file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ValueError(f"it names a folder: at most 100 letters, digits, `.`, `_`, `-`; found {name[:40]!r}")
    return name


def _name_is_metric(value: Any) -> Any:
    """`objective: delta` is short for `objective: {metric: delta}`."""
    return {"metric": value} if isinstance(value, str) else value


class Sections(Config):
    """A space file: what to search over, with which data, for what, how long, where."""

    name: Annotated[str, AfterValidator(_is_a_file_name)] | None = None
    """The experiment's name; the file's own name when left out."""

    data: DataConfig
    """Where the data comes from."""

    space: Mapping[str, Any]
    """What can be chosen: values, domains, and choices between components."""

    constraints: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Expressions that every configuration must satisfy, such as `alpha * num_experts < num_experts`."""

    objective: Annotated[
        ObjectiveConfig, BeforeValidator(_name_is_metric, json_schema_input_type=ObjectiveConfig | str)
    ] = ObjectiveConfig()
    """What a trial is judged by: `delta`, `mean`, or one `task/metric`."""

    search: SearchConfig = SearchConfig()
    """Who proposes configurations and who stops them."""

    budget: BudgetConfig = BudgetConfig()
    """How much may be spent."""

    final: FinalConfig | None = None
    """Whether the best trials are trained again on fresh seeds, for a ranking with intervals and tests."""

    resources: ResourcesConfig = ResourcesConfig()
    """What one trial is given."""

    tracking: TrackingConfig = TrackingConfig()
    """Where results are mirrored to."""


def name_of(stem: str) -> str:
    """An experiment's name from a file's, with what no folder's name should have replaced."""
    return re.sub(r"[^\w.-]", "_", stem)[:100].lstrip(".-") or "experiment"

"""How much may be spent, and on what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mtlsearch.config.base import Config

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> Any:
    """`90`, `"90s"`, `"10m"`, `"1h30m"` → seconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", value)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])", "", value).strip():
        raise ValueError(f"a duration is a number of seconds or like 90s, 10m, 1h30m, 2d; got {value!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


Seconds = Annotated[
    float, BeforeValidator(_seconds, json_schema_input_type=float | str), Field(gt=0, allow_inf_nan=False)
]
"""A duration; a space file may also write it as text."""


class BudgetConfig(Config):
    """When the search ends: the first of trials and wall that is reached."""

    trials: Annotated[int, Field(ge=1)] = 20
    """Trials of the search, single-task baselines not counted."""

    epochs: Annotated[int, Field(ge=1)] = 10
    """Most epochs that one trial trains."""

    wall: Seconds | None = None
    """Seconds of wall time for the whole search, resumes included; trials that then still run are stopped.
    Test scores and the trials of `final:` come after it."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """A trial ends when its objective has not improved for so many epochs."""


class ResourcesConfig(Config):
    """What one trial is given."""

    workers_per_trial: Annotated[int, Field(ge=1)] = 1
    """Ranks of a trial's process group; 1 trains without one."""

    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    """CPUs, and so threads, of each rank."""

    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0

    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    """Most trials at once; as many as fit when left out."""

    max_retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial is taken up again after its process or node was lost."""

    timeout: Seconds = 300.0
    """Seconds after which a rank that does not answer is given up."""

    feed: Literal["auto", "memory", "stream"] = "auto"
    """How rows come to a trial. `memory`: mapped, and on a GPU copied there. `stream`: read from disk window by window,
    for data larger than memory. `auto`: `stream` where data has more than 1/8 of the machine's memory, or does not fit
    into half of a trial's share of its GPU."""

"""How much may be spent, and on what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticKnownError

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


def _workers(value: Any) -> int | tuple[int, int]:
    """`2`, or `[1, 4]`, or `{int: [1, 4]}` as ranges are written elsewhere."""
    written = value["int"] if isinstance(value, Mapping) and list(value) == ["int"] else value
    if not isinstance(written, list | tuple):
        return _positive(written, value)
    if len(written) != 2:
        raise ValueError(f"a range has two ends, the least and the most workers; found {list(written)}")
    least, most = (_positive(end, end) for end in written)
    if least > most:
        raise ValueError(f"the least workers, {least}, are more than the most, {most}. Write [{most}, {least}].")
    return least, most


def _positive(number: Any, found: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(f"it must be a whole number of workers, or a range such as [1, 4]; found {found!r}")
    if number < 1:
        raise PydanticKnownError("greater_than_equal", {"ge": 1})
    return number


_ONE = {"type": "integer", "minimum": 1}
_ENDS = {"type": "array", "items": _ONE, "minItems": 2, "maxItems": 2}
_RANGE = {"type": "object", "properties": {"int": _ENDS}, "required": ["int"], "additionalProperties": False}


def _shares(gpus: float) -> float:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"it must be a whole number of GPUs, or a share of one below 1; found {gpus:g}. "
            f"Write {int(gpus)} or {int(gpus) + 1}."
        )
    return gpus


class ResourcesConfig(Config):
    """What one trial is given."""

    workers_per_trial: Annotated[
        int | tuple[int, int], BeforeValidator(_workers), WithJsonSchema({"anyOf": [_ONE, _ENDS, _RANGE]})
    ] = 1
    """Ranks of a trial's process group; 1 trains without one. A range, `[1, 4]`, starts a trial with what is free;
    its batches, and so its gradients, are the same with any number."""

    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    """CPUs, and so threads, of each rank."""

    gpus_per_worker: Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_shares)] = 0.0
    """GPUs of each rank. Less than 1 is a share of a GPU, of whose memory a rank then takes no more than that."""

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

    @property
    def least_workers(self) -> int:
        """Ranks that a trial needs to start."""
        return self.workers_per_trial if isinstance(self.workers_per_trial, int) else self.workers_per_trial[0]

    @property
    def most_workers(self) -> int:
        """Ranks that a trial is given where they are free."""
        return self.workers_per_trial if isinstance(self.workers_per_trial, int) else self.workers_per_trial[1]

    @property
    def shares_gpus(self) -> bool:
        """Whether several ranks use one GPU."""
        return 0 < self.gpus_per_worker < 1

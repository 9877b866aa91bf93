"""How a numeric column becomes a network's input."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtlsearch.config.base import Config

UNSEEN, MISSING, FIRST = 0, 1, 2
"""Indices of a category that train does not have, of a missing one, and of the first known one."""


class Encoding(Config):
    """What is fitted on the training rows, kept with the model and applied to every row."""

    kind: Literal["auto", "standardize", "log", "quantile", "none"] = "auto"
    """`standardize`: (value − mean) / deviation. `log`: sign(x)·log(1 + |x|) first. `quantile`: the value's rank
    among the training rows, as a normal deviate. `none`: as it is. `auto`: `log` for heavy tails, else `standardize`.
    """

    clip: Annotated[float, Field(gt=0)] | None = 8.0
    """Deviations beyond which a value is cut off; null for no limit. `none` is never clipped."""

    bins: Annotated[int, Field(ge=2, le=1000)] | None = None
    """Whether the number is also given as a category of about so many bins: one for each value that many rows share
    (zero dollars), the others cut at their quantiles. A network then need not be smooth in it."""

    indicator: bool = True
    """Whether a column that misses values is followed by one that says where."""

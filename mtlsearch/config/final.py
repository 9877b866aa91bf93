"""The final ranking."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mtlsearch.config.base import Config


class FinalConfig(Config):
    """After the search, the best trials and the single-task baselines are trained again on fresh seeds, and ranked by
    what they score on test. Their time is beside `budget.wall`, which ends the search only."""

    top_k: Annotated[int, Field(ge=1)] = 3
    """The search's best complete trials, by the objective on validation, that are trained again."""

    seeds: Annotated[int, Field(ge=1)] = 5
    """How often each of them and each baseline is. One seed has no interval and no test; less than five tell little."""

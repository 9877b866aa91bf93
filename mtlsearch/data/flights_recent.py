"""How flights have been leaving the airport: what its board shows an hour before the scheduled departure.

Axes: N flights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtlsearch.data.flights_schedule import days_since_1970, minutes

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Strings

AHEAD = 60
"""Minutes before the scheduled departure; nothing that happens later is looked at."""

WINDOW = 180
"""Minutes before that moment that are looked back on."""

DELAYS = (-20.0, 180.0)
"""Minutes at which a delay is cut off, so that one flight does not make the mean."""


def recent_numbers(numbers: Mapping[str, Any], origin: Strings) -> dict[str, Floats]:
    """`recent_delay`, the mean delay in minutes of those that left in the window (0 if none did), and
    `recent_missing`, the share of those that were to leave in it by which fewer did."""
    import numpy as np

    day_N = days_since_1970(numbers["year"], numbers["month"], numbers["day"])
    scheduled_N = 1440 * day_N + minutes(numbers["sched_dep_time"])
    codes_N = origin.dictionary_encode().indices.to_numpy()
    recent = {name: np.zeros(len(day_N), np.float32) for name in ("recent_delay", "recent_missing")}
    for airport in np.unique(codes_N):
        here = np.flatnonzero(codes_N == airport)
        delay, missing = _board(scheduled_N[here], numbers["dep_delay"][here])
        recent["recent_delay"][here], recent["recent_missing"][here] = delay, missing
    return recent


def _board(scheduled_N: Any, delay_N: Any) -> tuple[Any, Any]:
    """Of one airport. A cancelled flight's delay is NaN."""
    import numpy as np

    left = np.flatnonzero(~np.isnan(delay_N))
    at = scheduled_N[left] + np.maximum(delay_N[left], 1 - AHEAD)  # so that no flight stands on its own board
    order = np.argsort(at, kind="stable")
    at, clipped = at[order], np.clip(delay_N[left][order], *DELAYS)
    total = np.concatenate([[0.0], np.cumsum(clipped)])
    now_N = scheduled_N - AHEAD
    first, last = (np.searchsorted(at, now_N - back, side="right") for back in (WINDOW, 0))
    planned = np.sort(scheduled_N)
    planned_N = np.searchsorted(planned, now_N, side="right") - np.searchsorted(planned, now_N - WINDOW, side="right")
    num_left_N = last - first
    mean_N = (total[last] - total[first]) / np.maximum(num_left_N, 1)
    return mean_N, np.clip((planned_N - num_left_N) / np.maximum(planned_N, 1), -2, 2)

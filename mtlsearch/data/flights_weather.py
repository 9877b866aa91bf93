"""The weather at the airport of departure, in the scheduled hour and the hours before it.

Axes: N flights, M weather reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.data.csv_file import Table
from mtlsearch.data.flights_schedule import departure_hours, hours_since_1970

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Strings

MEASURED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
WEATHER = {"origin": "text", **dict.fromkeys(("year", "month", "day", "hour", *MEASURED), "number")}

STORM = 200.0
"""Miles an hour; the file has a wind of 1,048."""


@dataclass(frozen=True)
class Reports:
    """Weather reports that are looked up by airport and hour."""

    airports: Any
    """pyarrow strings: the airports' names; the position is the code in a key."""
    keys_M: Any
    """int64, ascending: hour · airports + airport."""
    values: Mapping[str, Any]
    """Measurement → float64 [M]."""

    def keys(self, origin: Strings, hours_N: Any) -> Any:
        """int64 [N]; −1 for an airport without reports."""
        import numpy as np
        import pyarrow.compute as pc

        code_N = pc.index_in(origin, self.airports).fill_null(-1).to_numpy().astype(np.int64)
        return np.where(code_N < 0, -1, hours_N * len(self.airports) + code_N)

    def at(self, name: str, keys_N: Any, hours_ago: int = 0) -> Any:
        """float64 [N]; NaN where there is no report."""
        import numpy as np

        wanted_N = np.where(keys_N < 0, -1, keys_N - hours_ago * len(self.airports))
        place_N = np.searchsorted(self.keys_M, wanted_N).clip(max=len(self.keys_M) - 1)
        return np.where(self.keys_M[place_N] == wanted_N, self.values[name][place_N], np.nan)


def reports_of(weather: Table) -> Reports:
    """Sorts the reports; of two for one hour (the clock goes back in November) the first is kept."""
    import numpy as np
    import pyarrow.compute as pc

    numbers = {name: weather.column(name).to_numpy() for name, kind in WEATHER.items() if kind == "number"}
    hours_M = hours_since_1970(numbers["year"], numbers["month"], numbers["day"], numbers["hour"])
    origin = weather.column("origin").chunk(0)
    airports = pc.unique(origin)
    keys_M = hours_M * len(airports) + pc.index_in(origin, airports).to_numpy()
    keys_M, first_M = np.unique(keys_M, return_index=True)
    values = {name: numbers[name][first_M] for name in MEASURED}
    values["wind_speed"] = np.where(values["wind_speed"] < STORM, values["wind_speed"], np.nan)
    return Reports(airports, keys_M, values)


def weather_numbers(numbers: Mapping[str, Any], origin: Strings, weather: Table) -> dict[str, Floats]:
    """Degrees Fahrenheit, percent, miles an hour, millibars, miles; rain in hundredths of an inch."""
    import numpy as np

    reports = reports_of(weather)
    keys_N = reports.keys(origin, departure_hours(numbers))
    now = {name: reports.at(name, keys_N) for name in MEASURED}
    before = {
        name: [reports.at(name, keys_N, ago) for ago in range(1, 7)] for name in ("precip", "visib", "wind_speed")
    }
    direction_N = np.deg2rad(now["wind_dir"])
    columns = {
        **{name: now[name] for name in ("temp", "dewp", "humid", "wind_speed", "wind_gust", "pressure", "visib")},
        "wind_east": -now["wind_speed"] * np.sin(direction_N),  # wind_dir is where the wind comes from
        "wind_north": -now["wind_speed"] * np.cos(direction_N),
        "rain": 100 * now["precip"],
        "rain_3h": 100 * np.nansum(before["precip"][:3], axis=0),
        "rain_6h": 100 * np.nansum(before["precip"], axis=0),
        "freezing_rain_6h": 100 * np.nansum(before["precip"], axis=0) * (now["temp"] < 34),
        "visib_3h": np.fmin.reduce(before["visib"][:3]),
        "wind_speed_3h": np.fmax.reduce(before["wind_speed"][:3]),
        "pressure_change_3h": now["pressure"] - reports.at("pressure", keys_N, 3),
    }
    return {name: column.astype(np.float32) for name, column in columns.items()}

"""Small files in the form of the real ones, written anew by every test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlsearch.config import CensusConfig, FlightsConfig
from mtlsearch.data.census_fields import FIELDS

FLIGHTS_HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,"
    "carrier,flight,tailnum,origin,dest,air_time,distance"
)
WEATHER_HEADER = "origin,year,month,day,hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib"
DEGREES = ("Doctorate degree(PhD EdD)", "Associates degree-academic program", "10th grade")
PERSON = dict.fromkeys(FIELDS, "Not in universe") | {
    **dict.fromkeys(("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends", "num_emp"), "0"),
    "weeks_worked": "52",
    "age": "40",
    "instance_weight": "1700.09",
    "year": "95",
    "hisp_origin": "NA",
}


def flight_line(month: int, day: int, hour: int = 6, **changed: object) -> str:
    """One flight, 20 minutes late on even days and cancelled on day 3."""
    late, cancelled = 20 if day % 2 == 0 else 0, day == 3
    values = {
        "year": 2013,
        "month": month,
        "day": day,
        "dep_time": "NA" if cancelled else 100 * hour + late,
        "sched_dep_time": 100 * hour,
        "dep_delay": "NA" if cancelled else late,
        "arr_time": "NA",
        "sched_arr_time": 100 * hour + 230,
        "arr_delay": "NA" if cancelled else late - month,
        "carrier": "UA",
        "flight": 1545,
        "tailnum": "N14228",
        "origin": "EWR",
        "dest": "IAH",
        "air_time": "NA" if cancelled else 120 + day,
        "distance": 1400,
    }
    return ",".join(str(value) for value in (values | changed).values())


def weather_line(month: int, day: int, hour: int, **changed: object) -> str:
    """One hour's weather in Newark; the wind blows from the west."""
    values = {
        "origin": "EWR",
        "year": 2013,
        "month": month,
        "day": day,
        "hour": hour,
        "temp": 39.02,
        "dewp": 26.06,
        "humid": 59.37,
        "wind_dir": 270,
        "wind_speed": 10.0 + day,
        "wind_gust": "NA",
        "precip": 0.01 * hour,
        "pressure": 1012,
        "visib": 10,
    }
    return ",".join(str(value) for value in (values | changed).values())


def flight_lines() -> list[str]:
    """Four days of every month; December flies to a place of its own."""
    return [
        flight_line(month, day, dest="XMAS" if month == 12 else "IAH") for month in range(1, 13) for day in range(1, 5)
    ]


def weather_lines() -> list[str]:
    """The first seven hours of four days of every month, with the empty lines that the real file has."""
    return [weather_line(month, day, hour) + "\n" for month in range(1, 13) for day in range(1, 5) for hour in range(7)]


def person_line(**changed: object) -> str:
    """One person, as UCI writes one."""
    values = PERSON | {"income_50k": "- 50000."} | changed
    return ", ".join(str(value) for value in values.values())


def people_lines(num_people: int) -> list[str]:
    """People whose labels take turns."""
    return [
        person_line(
            age=20 + i,
            income_50k="50000+." if i % 3 == 0 else "- 50000.",
            marital_stat="Never married" if i % 2 else "Widowed",
            education=DEGREES[i % 3],
            capital_gains=5178 if i == 1 else 0,
        )
        for i in range(num_people)
    ]


WriteFlights = Callable[..., FlightsConfig]
WriteCensus = Callable[..., CensusConfig]


@pytest.fixture
def write_flights(tmp_path: Path) -> WriteFlights:
    """Writes flights.csv and weather.csv; `flights=` and `weather=` replace their lines."""

    def write(
        flights: list[str] | None = None,
        weather: list[str] | None = None,
        header: str = FLIGHTS_HEADER,
        **options: object,
    ) -> FlightsConfig:
        folder = tmp_path / "flights"
        folder.mkdir(exist_ok=True)
        (folder / "flights.csv").write_text("\n".join([header, *(flights or flight_lines())]) + "\n")
        (folder / "weather.csv").write_text("\n".join([WEATHER_HEADER, *(weather or weather_lines())]) + "\n")
        return FlightsConfig(path=str(folder), **options)

    return write


@pytest.fixture
def write_census(tmp_path: Path) -> WriteCensus:
    """Writes census-income.data and census-income.test; `train=` and `test=` replace their lines."""

    def write(train: list[str] | None = None, test: list[str] | None = None, **options: object) -> CensusConfig:
        folder = tmp_path / "census"
        folder.mkdir(exist_ok=True)
        (folder / "census-income.data").write_text("\n".join(train or people_lines(30)) + "\n")
        (folder / "census-income.test").write_text("\n".join(test or people_lines(11)) + "\n")
        return CensusConfig(path=str(folder), **options)

    return write


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data: $MTLSEARCH_SHARED/data, or shared/data beside the repository."""
    shared = Path(os.environ.get("MTLSEARCH_SHARED") or Path(__file__).parents[3] / "shared") / "data"
    if not shared.is_dir():
        pytest.skip(f"real data is not in {shared}; MTLSEARCH_SHARED says where it is")
    return shared


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache folder."""
    return tmp_path / "cache"

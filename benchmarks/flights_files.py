"""Small folders with flights.csv and weather.csv."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from mtlsearch.config import FlightsConfig
from mtlsearch.data.csv_stream import open_csv
from mtlsearch.data.flights import Flights
from mtlsearch.data.flights_weather import MEASURED

HOURS = tuple(range(6, 22))
AIRPORTS = ("EWR", "JFK", "LGA")
DISTANCES = {"IAH": 1400, "MIA": 1090, "ORD": 730, "BOS": 190, "LAX": 2470}


def write_made_up(folder: Path, rows_a_month: int, seed: int = 0) -> None:
    """Flights that never were, every tenth of them cancelled, so few that an epoch takes no time."""
    generator = random.Random(seed)
    folder.mkdir(parents=True)
    flights = [_flight(generator, month, row) for month in range(1, 13) for row in range(rows_a_month)]
    reports = [
        {"origin": origin, "year": 2013, "month": month, "day": day, "hour": hour}
        | {name: f"{generator.uniform(0, 50):.2f}" for name in MEASURED}
        for origin in AIRPORTS
        for month in range(1, 13)
        for day in range(1, 29)
        for hour in HOURS
    ]
    for name, table in (("flights.csv", flights), ("weather.csv", reports)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


def write_every(folder: Path, every: int) -> None:
    """Every n-th of the real flights, with all weather reports."""
    folder.mkdir(parents=True)
    flights, weather = Flights(FlightsConfig()).files()
    with open_csv(weather) as source:
        (folder / "weather.csv").write_bytes(source.read())
    with open_csv(flights) as source, (folder / "flights.csv").open("wb") as file:
        file.writelines(line for number, line in enumerate(source) if number == 0 or number % every == 1 % every)


def _flight(generator: random.Random, month: int, row: int) -> dict[str, object]:
    cancelled = row % 10 == 0
    dest = generator.choice(list(DISTANCES))
    hour, delay = generator.choice(HOURS), round(generator.gauss(10, 30))
    labels = {
        "dep_time": 100 * hour + 5,
        "dep_delay": delay,
        "arr_delay": delay + generator.randrange(-10, 10),
        "air_time": DISTANCES[dest] // 8 + 20,
    }
    return {
        "year": 2013,
        "month": month,
        "day": generator.randrange(1, 29),
        **(dict.fromkeys(labels, "NA") if cancelled else labels),
        "sched_dep_time": 100 * hour,
        "sched_arr_time": 100 * (hour + 2),
        "carrier": generator.choice(["UA", "AA", "B6"]),
        "origin": generator.choice(AIRPORTS),
        "dest": dest,
        "distance": DISTANCES[dest],
    }

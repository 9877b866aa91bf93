"""What all tests share: a cache of their own, one thread, no network, and a small data set with its space file."""

from __future__ import annotations

import csv
import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from storage_server import BUCKET, StorageServer

from mtlsearch.cli import main

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: models are small here, one thread is the fastest

FLIGHTS = [
    "year",
    "month",
    "day",
    "dep_time",
    "sched_dep_time",
    "dep_delay",
    "arr_time",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "air_time",
    "distance",
]
WEATHER = [
    "origin",
    "year",
    "month",
    "day",
    "hour",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]
MILES = {"IAH": 1400, "BOS": 190, "LAX": 2470}

WriteSpace = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's is read or written: data cache, W&B login and settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTLSEARCH_CACHE", str(home / "cache"))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("NETRC", str(home / "netrc"))
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"WANDB_{name}_DIR", str(home / "wandb"))
        for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY", "RAY_ADDRESS", "COLUMNS"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def small_flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flights.csv and weather.csv: 60 flights a month, later in the rain, longer where it is farther."""
    folder, draw = tmp_path_factory.mktemp("flights"), random.Random(0)
    weather = [_weather(month, day, hour, draw) for month in range(1, 13) for day in range(1, 11) for hour in range(24)]
    rain = {(row["month"], row["day"], row["hour"]): row["precip"] for row in weather}
    flights = [_flight(month, draw, rain) for month in range(1, 13) for _ in range(60)]
    for name, fields, rows in (("flights", FLIGHTS, flights), ("weather", WEATHER, weather)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fields, restval="NA")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture
def space_file(tmp_path: Path, small_flights: Path) -> WriteSpace:
    """`space_file()` writes a space file that a search runs in a second or two; `key="text"` replaces a section."""

    def write(file: str = "small.yaml", **sections: str | None) -> Path:
        whole = {
            "name": "small",
            "data": f"{{source: flights, path: {small_flights}}}",
            "space": "{model: {choice: [{kind: shared_bottom, hidden: {choice: [4, 8]}}, {kind: mmoe, hidden: 4}]}, "
            "optimizer: {lr: {float: [1.0e-3, 1.0e-1], log: true}}, batch_size: 64}",
            "search": "{sampler: random, pruner: none, seed: 3}",
            "budget": "{trials: 4, epochs: 2}",
            **sections,
        }
        path = tmp_path / file
        path.write_text("".join(f"{key}: {value}\n" for key, value in whole.items() if value is not None))
        return path

    return write


def _weather(month: int, day: int, hour: int, draw: random.Random) -> dict[str, object]:
    return {
        "origin": "EWR",
        "year": 2013,
        "month": month,
        "day": day,
        "hour": hour,
        "temp": 40 + draw.randrange(30),
        "dewp": 30,
        "humid": 60,
        "wind_dir": 270,
        "wind_speed": draw.randrange(20),
        "precip": draw.choice((0, 0, 0, 0.3)),
        "pressure": 1012,
        "visib": 10,
    }


def _flight(month: int, draw: random.Random, rain: dict[tuple[object, ...], object]) -> dict[str, object]:
    day, hour, dest = draw.randint(1, 10), draw.randint(5, 22), draw.choice(sorted(MILES))
    wet = rain[month, day, hour] != 0
    delay = draw.randrange(-5, 20) + (25 if wet else 0)
    planned = {
        "year": 2013,
        "month": month,
        "day": day,
        "sched_dep_time": 100 * hour,
        "sched_arr_time": 100 * (hour + 1),
        "carrier": draw.choice(("UA", "B6")),
        "flight": draw.randrange(1000),
        "origin": "EWR",
        "dest": dest,
        "distance": MILES[dest],
    }
    if draw.random() < (0.3 if wet else 0.05):
        return planned  # cancelled: the rest is NA
    return planned | {
        "dep_time": 100 * hour + max(delay, 0) % 60,
        "dep_delay": delay,
        "arr_delay": delay + draw.randrange(-10, 10),
        "air_time": MILES[dest] // 8 + draw.randrange(20),
    }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[StorageServer]:
    """An S3 API on loopback; who stops it starts it again."""
    with StorageServer() as server:
        yield server


@pytest.fixture
def s3_uri(s3_server: StorageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A place of one's own there, with what the environment must say of it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that is soon full, of 64 KiB; `mount -o remount,size=…` gives it more."""
    place = tmp_path / "small_disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@dataclass(frozen=True)
class Ended:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Mtlsearch = Callable[..., Ended]


@pytest.fixture
def mtlsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mtlsearch:
    """`mtlsearch("run", file, "--trials", 3)`: the console script's function, in this process, from an empty folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mtlsearch", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        gc.collect()  # a process that ends lets go of its locks; here, what the exception held must be collected
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return call

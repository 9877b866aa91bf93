"""drivers.json: who drove an experiment, and for how long. A driver that was killed counts until its last write."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.files import write_whole


class DriverClock:
    """This driver's entry, and the seconds of all.

    Args:
        folder: the experiment's.
        clock: seconds, of this driver.
    """

    def __init__(self, folder: ExperimentFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        drivers = _read(folder)
        now = time.time()
        if drivers:
            drivers[-1].setdefault("ended", _last_sign(folder, drivers[-1]))
        self.num_drivers = len(drivers) + 1
        self.token = secrets.token_hex(8)
        self._before = _seconds(drivers)
        self._started = clock()
        write_whole(_path(folder), json.dumps([*drivers, {"started": now, "token": self.token}], indent=1))

    def seconds(self) -> float:
        """Wall time spent so far."""
        return self._before + self._clock() - self._started


def seconds_driven(folder: ExperimentFolder, *, running: bool) -> float:
    """Wall time spent on an experiment so far, for who only looks.

    Args:
        running: whether the last driver still drives.
    """
    drivers = _read(folder)
    if drivers and "ended" not in drivers[-1]:
        drivers[-1]["ended"] = time.time() if running else _last_sign(folder, drivers[-1])
    return _seconds(drivers)


def _last_sign(folder: ExperimentFolder, driver: dict[str, Any]) -> float:
    written = (path.stat().st_mtime for path in (folder.journal, folder.status) if path.exists())
    return max([float(driver["started"]), *written])


def _seconds(drivers: list[dict[str, Any]]) -> float:
    return float(sum(driver["ended"] - driver["started"] for driver in drivers))


def _path(folder: ExperimentFolder) -> Path:
    return folder.path / "drivers.json"


def _read(folder: ExperimentFolder) -> list[dict[str, Any]]:
    path = _path(folder)
    return list(json.loads(path.read_bytes())) if path.exists() else []

"""How an experiment stands: what its folder says of the search, and what its driver last wrote of who runs where."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtlsearch.folder import ExperimentFolder
from mtlsearch.folder.drivers import seconds_driven
from mtlsearch.records import TrialRecord
from mtlsearch.search import read_records, study_of
from mtlsearch.space import read_experiment

FRESH_SECONDS = 30.0
"""An older status.json is of a driver that did not live to remove it, or that cannot write."""


@dataclass(frozen=True)
class Standing:
    """At one moment."""

    name: str
    driver: str | None
    """Who drives it; None when nobody does."""
    stopping: bool
    counts: Mapping[str, int]
    """State → trials of the search, baselines and final trials not counted."""
    num_trials: int
    others: Mapping[str, tuple[int, int]]
    """`baseline`, `final` → ended, begun; where there are any."""
    best: float | None
    best_trial: int | None
    seconds: float
    """Driven so far."""
    eta: float | None
    """Seconds until all trials have ended, if they take as long as those before; None while none has."""
    ranks: tuple[Mapping[str, Any], ...]
    """Every process that trains, as it said last; empty when nobody drives, or drives without Ray."""
    nodes: tuple[Mapping[str, Any], ...]

    def json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1)


def read_standing(folder: ExperimentFolder) -> Standing:
    """How it stands now.

    Raises:
        ConfigError: a file of the folder is damaged.
    """
    experiment = read_experiment(folder.space, tuple(folder.read_plan()["overrides"]))
    driver, now = folder.driver(), time.time()
    status = _status(folder, now) if driver is not None else {}
    records = read_records(study_of(folder))
    own = [record for record in records if record.role == "trial"]
    best = max(
        (record for record in own if record.state == "COMPLETE"),
        key=lambda record: (record.value, -record.number),
        default=None,
    )
    seconds = seconds_driven(folder, running=driver is not None)
    left = None if experiment.budget.wall is None else max(0.0, experiment.budget.wall - seconds)
    return Standing(
        name=experiment.name,
        driver=driver,
        stopping=driver is not None and folder.stop.exists(),
        counts=dict(Counter(record.state for record in own)),
        num_trials=experiment.budget.trials,
        others={role: _ended(records, role) for role in ("baseline", "final") if _ended(records, role)[1]},
        best=None if best is None else best.value,
        best_trial=None if best is None else best.number,
        seconds=seconds,
        eta=None if driver is None else _eta(own, experiment.budget.trials, seconds, left),
        ranks=tuple(sorted(status.get("ranks", ()), key=lambda rank: (rank["trial"], rank["rank"]))),
        nodes=tuple(status.get("nodes", ())),
    )


def _status(folder: ExperimentFolder, now: float) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads(folder.status.read_bytes())
    except FileNotFoundError:  # the driver has just begun, or drives without Ray
        return {}
    return status if now - status["time"] < FRESH_SECONDS else {}


def _ended(records: list[TrialRecord], role: str) -> tuple[int, int]:
    theirs = [record for record in records if record.role == role]
    return sum(record.state != "RUNNING" for record in theirs), len(theirs)


def _eta(own: list[TrialRecord], num_trials: int, seconds: float, left: float | None) -> float | None:
    ended = sum(record.state != "RUNNING" for record in own)
    if not ended:
        return left
    rest = seconds * max(0, num_trials - ended) / ended
    return rest if left is None else min(rest, left)

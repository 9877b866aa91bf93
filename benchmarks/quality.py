"""What a search of ten minutes on two cores reaches on real data: the best trial's test scores, beside what is wanted.

    python benchmarks/quality.py --census DIR --physionet2012 DIR --pcba DIR [flights census physionet2012 pcba]

Each search is the command that the space file's header gives, with its folder as `data.path`; validation chooses the
trial and its epoch, test is scored once. flights needs no folder. A search that is run again replaces its record in
benchmarks/results/quality.json, no other.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from commands import circumstances, environment, run
from contestants import MTLSEARCH
from rich.console import Console

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "quality.json"
LONGEST = 600.0
"""Seconds that a search may take."""

WANTED: Mapping[str, Mapping[str, float]] = {
    "flights": {"cancelled/auroc": 0.81, "dep_late15/auroc": 0.705, "air_time/r2": 0.975},
    "census": {"income/auroc": 0.950, "marital/auroc": 0.9945, "education/auroc": 0.912},
    "physionet2012": {"death/auroc": 0.85, "sofa/r2": 0.75, "length_of_stay/r2": 0.17},
    "pcba": {"mean/auroc": 0.79},
}
"""Test scores; `mean` is the mean over all tasks."""

SPACES = {"flights": "quickstart"}


def search(name: str, path: str | None, home: Path) -> dict[str, Any]:
    """One search, and what its winner scored."""
    out = home / name
    space = Path("search_spaces") / f"{SPACES.get(name, name)}.yaml"
    overrides = [] if path is None else ["--set", f"data.path={path}"]
    command = [str(MTLSEARCH), "run", str(space), *overrides, "--out", str(out)]
    done = run(command, environment(home)).expect(0)
    with (out / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    winner = next(row for row in rows if row["role"] == "trial" and row["state"] == "COMPLETE")
    scores = {
        key.removeprefix("test/"): float(value) for key, value in winner.items() if key.startswith("test/") and value
    }
    found = {target: _found(target, scores) for target in WANTED[name]}
    return {
        "command": f"mtlsearch run {space}" + ("" if path is None else " --set data.path=DIR"),
        "seconds": round(done.wall, 1),
        "within_ten_minutes": done.wall <= LONGEST,
        "trials": sum(row["role"] == "trial" for row in rows),
        "winner": {key: winner[key] for key in ("trial", "objective", "epochs")},
        "parameters": {key: value for key, value in winner.items() if value and ("." in key or key == "batch_size")},
        "targets": [
            {
                "name": f"{name}: {target} on test",
                "target": f"≥ {wanted}",
                "found": round(found[target], 5),
                "reached": found[target] >= wanted,
            }
            for target, wanted in WANTED[name].items()
        ],
        "circumstances": circumstances(),
    }


def _found(target: str, scores: Mapping[str, float]) -> float:
    task, metric = target.split("/")
    if task == "mean":
        return fmean(value for name, value in scores.items() if name.endswith(f"/{metric}"))
    return scores[target]


def main() -> None:
    """Runs the searches that were named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searches", nargs="*", metavar="SEARCH", help=f"some of {', '.join(WANTED)}; all when left out")
    for name in ("census", "physionet2012", "pcba"):
        parser.add_argument(f"--{name}", metavar="DIR")
    options, console = parser.parse_args(), Console()
    if unknown := set(options.searches) - set(WANTED):
        parser.error(f"there is no search {', '.join(sorted(unknown))}; there are {', '.join(WANTED)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in options.searches or WANTED:
        home = Path(tempfile.mkdtemp(prefix="mtlsearch-quality-"))
        try:
            results[name] = search(name, getattr(options, name, None), home)
        finally:
            shutil.rmtree(home, ignore_errors=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        console.print_json(json.dumps(results[name]))


if __name__ == "__main__":
    main()

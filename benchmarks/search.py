"""A search by mtlsearch, beside the script that one writes today (Ray Tune, OptunaSearch, ASHA) and Optuna alone.

    python benchmarks/search.py orchestration|search|start|all --out benchmarks/results/search.json

Every run is a command of its own, timed from outside; the contestants take turns. All of them read the same data
and train by `mtlsearch.train.fit`, which writes a line and a checkpoint an epoch; search.yaml and
baseline_script.py say the same space. A part that is run again replaces its record in the file, no other.

orchestration: trials whose training takes next to nothing, so that what is timed is everything around it.
search: real flights; seconds until a validation score is reached that the script reached, and when.
start: seconds from `mtlsearch run` to the first epoch's line, and of commands that answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from commands import Run, Watch, circumstances, environment, run
from contestants import (
    EPOCH_LINE,
    MTLSEARCH,
    Contest,
    Epoch,
    convert,
    ends,
    optuna_epochs,
    our_ends,
    our_epochs,
    our_objective,
    ray_epochs,
    reached,
)
from flights_files import write_every, write_made_up
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
QUICKSTART = HERE.parent / "search_spaces" / "quickstart.yaml"
MANY = 100_000
"""Trials of a search that goes on until it is interrupted."""

Record = dict[str, Any]


# Orchestration -----------------------------------------------------------------------------------------


def orchestration(options: argparse.Namespace, home: Path) -> Record:
    """Wall time a trial and a report when training takes next to nothing."""
    data = home / "made-up"
    write_made_up(data, options.rows_a_month)
    contest = Contest(home, data, epochs=5, pruning=False, threads=1)
    convert(contest)
    raw = [
        one
        for repetition in range(options.repetitions)
        for one in _orchestrate(contest, options.trials, options.script_trials, repetition)
    ]
    summary = {name: _summary([one for one in raw if one["contestant"] == name]) for name in ("ours", "ray", "optuna")}
    ours, ray = summary["ours"], summary["ray"]
    return {
        "parameters": {
            "trials": options.trials,
            "trials_of_the_ray_script": options.script_trials,
            "epochs": contest.epochs,
            "rows": 12 * options.rows_a_month,
            "repetitions": options.repetitions,
        },
        "raw": raw,
        "medians": summary,
        "ratios": {
            "wall_per_trial_ray_to_ours": ray["wall_s_per_trial_extended"] / ours["wall_s_per_trial"],
            "warm_rate_ours_to_ray": ours["warm_trials_per_s"] / ray["warm_trials_per_s"],
        },
        "targets": [
            _target(
                "wall time a trial, of the script's", 0.1, ours["wall_s_per_trial"] / ray["wall_s_per_trial_extended"]
            ),
            _target("trials a second once warm", 20, ours["warm_trials_per_s"], at_least=True),
        ],
    }


def _orchestrate(contest: Contest, trials: int, script_trials: int, seed: int) -> Iterator[Record]:
    out = contest.home / f"orchestration-{seed}"
    command = environment(contest.home)
    ours = run(contest.ours(out / "ours", trials, seed), command).expect(0)
    yield _around("ours", ours, our_epochs(ours, out / "ours"), our_ends(ours), trials)
    ray = run(contest.script("ray", out / "ray", script_trials, seed), command).expect(0)
    yield _around("ray", ray, epochs := ray_epochs(ray, out / "ray"), ends(epochs), trials)
    alone = run(contest.script("optuna", out / "optuna", trials, seed), command).expect(0)
    yield _around("optuna", alone, epochs := optuna_epochs(alone), ends(epochs), trials)
    shutil.rmtree(out)


def _around(contestant: str, result: Run, epochs: Sequence[Epoch], trial_ends: Sequence[float], trials: int) -> Record:
    """One run. A shorter run is extended to `trials` at its warm rate, so that its start counts for no more."""
    done = len(trial_ends)
    rate = (done - 1) / (trial_ends[-1] - trial_ends[0])
    return {
        "contestant": contestant,
        "trials": done,
        "reports": len(epochs),
        "wall_s": result.wall,
        "cpu_s": result.cpu,
        "machine_cpu_s": result.machine_cpu,
        "first_report_s": epochs[0].seconds,
        "first_trial_s": trial_ends[0],
        "last_trial_s": trial_ends[-1],
        "wall_s_per_trial": result.wall / done,
        "wall_s_per_report": result.wall / len(epochs),
        "wall_s_per_trial_extended": (result.wall + (trials - done) / rate) / trials,
        "warm_trials_per_s": rate,
    }


def _summary(runs: Sequence[Record]) -> Record:
    return {name: median(one[name] for one in runs) for name in runs[0] if name != "contestant"}


# Search ------------------------------------------------------------------------------------------------


def search(options: argparse.Namespace, home: Path) -> Record:
    """Wall time until a search is as good as the script became."""
    data = None
    if options.every > 1:
        data = home / "flights"
        write_every(data, options.every)
    contest = Contest(home, data, epochs=5, pruning=True, threads=len(os.sched_getaffinity(0)))
    convert(contest)
    raw = [_contest(contest, options.search_trials, seed) for seed in range(1, options.seeds + 1)]
    return {
        "parameters": {
            "trials_of_the_ray_script": options.search_trials,
            "epochs": contest.epochs,
            "seeds": options.seeds,
            "data": "every flight" if options.every == 1 else f"1 of {options.every} flights, to save time",
        },
        "note": "The others go on until they reach the script's best score, at most for the time of its whole run.",
        "raw": raw,
    } | race_summary(raw)


def race_summary(raw: Sequence[Record]) -> Record:
    """Medians over the seeds, and our time against the script's: for its score, and for all its trials."""
    ours, alone = (_median_or_none([one[name]["to_target_s"] for one in raw]) for name in ("ours", "optuna"))
    score = median(one["ray"]["to_target_s"] for one in raw)
    trials = median(one["ray"]["wall_s"] for one in raw)
    return {
        "medians": {
            "ours_to_target_s": ours,
            "ray_to_target_s": score,
            "optuna_to_target_s": alone,
            "ray_wall_s": trials,
        },
        "ratios": {"ours_to_ray": ours / score if ours else None, "optuna_to_ray": alone / score if alone else None},
        "targets": [
            _target("time to the script's best score, of the script's 40 trials", 0.5, ours / trials if ours else None),
            _target("the same, of the time at which the script had it", 0.5, ours / score if ours else None),
        ],
    }


def _contest(contest: Contest, trials: int, seed: int) -> Record:
    out, command = contest.home / f"search-{seed}", environment(contest.home)
    ray = run(contest.script("ray", out / "ray", trials, seed), command).expect(0)
    epochs = ray_epochs(ray, out / "ray")
    target = max(epoch.objective for epoch in epochs)

    ours = run(contest.ours(out / "ours", MANY, seed), command, _our_watch(out / "ours", target, ray.wall)).expect(0)
    alone_watch = _optuna_watch(target, ray.wall)
    alone = run(contest.script("optuna", out / "optuna", MANY, seed), command, alone_watch).expect(0)
    record = {
        "seed": seed,
        "target": target,
        "ray": _race(ray, epochs, ends(epochs), target),
        "ours": _race(ours, epochs := our_epochs(ours, out / "ours"), our_ends(ours), target, trials),
        "optuna": _race(alone, epochs := optuna_epochs(alone), ends(epochs), target, trials),
    }
    shutil.rmtree(out)
    return record


def _our_watch(out: Path, target: float, most_seconds: float) -> Watch:
    def enough(seconds: float, line: str) -> bool:
        match = EPOCH_LINE.match(line)
        there = match is not None and our_objective(out, int(match[1]), int(match[2])) >= target
        return there or seconds > most_seconds

    return enough


def _optuna_watch(target: float, most_seconds: float) -> Watch:
    def enough(seconds: float, line: str) -> bool:
        return seconds > most_seconds or (line.startswith("{") and json.loads(line)["objective"] >= target)

    return enough


def _race(
    result: Run, epochs: Sequence[Epoch], trial_ends: Sequence[float], target: float, trials: int | None = None
) -> Record:
    """One contestant's race. `trials`: the count that the script had, for those that had no end of their own."""
    return {
        "to_target_s": reached(epochs, target),
        "best": max(epoch.objective for epoch in epochs),
        "trials": len(trial_ends),
        "reports": len(epochs),
        "first_report_s": epochs[0].seconds,
        "wall_s": result.wall,
        "cpu_s": result.cpu,
        "machine_cpu_s": result.machine_cpu,
        "interrupted": result.stopped,
    } | ({f"wall_s_of_{trials}_trials": (list(trial_ends) + [None] * trials)[trials - 1]} if trials else {})


def _median_or_none(values: Sequence[float | None]) -> float | None:
    """The median, with what was not reached above everything; None when the median was not reached."""
    found = median(float("inf") if value is None else value for value in values)
    return None if found == float("inf") else found


# Start -------------------------------------------------------------------------------------------------


def start(options: argparse.Namespace, home: Path) -> Record:
    """Seconds until something is seen."""
    command = environment(home)
    wrong = home / "bad.yaml"
    wrong.write_text(QUICKSTART.read_text().replace("num_experts", "num_expert"))
    run([MTLSEARCH, "data", "describe", QUICKSTART], command).expect(0)
    raw = []
    for repetition in range(options.repetitions):
        first = _first_epoch(home / f"start-{repetition}", command)
        raw.append(
            {
                "first_epoch_s": first,
                "help_s": run([MTLSEARCH, "--help"], command).expect(0).wall,
                "check_bad_s": run([MTLSEARCH, "check", wrong], command).expect(2).wall,
            }
        )
    medians = {name: median(one[name] for one in raw) for name in raw[0]}
    return {
        "parameters": {"space": "search_spaces/quickstart.yaml", "repetitions": options.repetitions, "data": "warm"},
        "raw": raw,
        "medians": medians,
        "ratios": {},
        "targets": [
            _target("seconds to the first epoch's line", 12, medians["first_epoch_s"]),
            _target("seconds of mtlsearch --help", 1, medians["help_s"]),
            _target("seconds of mtlsearch check of a bad file", 1, medians["check_bad_s"]),
        ],
    }


def _first_epoch(out: Path, command: dict[str, str]) -> float:
    def is_epoch(_: float, line: str) -> bool:
        return EPOCH_LINE.match(line) is not None

    result = run([MTLSEARCH, "run", QUICKSTART, "--out", out], command, is_epoch)
    seconds = result.first(lambda line: EPOCH_LINE.match(line) is not None)
    assert seconds is not None, "\n".join(line for _, line in result.lines)
    shutil.rmtree(out, ignore_errors=True)
    return seconds


# All of it ---------------------------------------------------------------------------------------------


def _target(name: str, wanted: float, found: float | None, *, at_least: bool = False) -> Record:
    is_reached = found is not None and (found >= wanted if at_least else found <= wanted)
    return {"name": name, "target": f"{'≥' if at_least else '≤'} {wanted:g}", "found": found, "reached": is_reached}


PARTS = {"orchestration": orchestration, "search": search, "start": start}


def measure(part: str, options: argparse.Namespace) -> Record:
    """One part in a folder that is removed."""
    record = {"command": f"python benchmarks/search.py {' '.join(sys.argv[1:])}"} | circumstances()
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return record | PARTS[part](options, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def show(records: dict[str, Record]) -> None:
    """The medians and the targets as tables."""
    console = Console()
    for part, record in records.items():
        table = Table(title=f"{part}: medians", title_justify="left")
        medians = record["medians"]
        if part == "orchestration":
            table.add_column("")
            for name in medians:
                table.add_column(name, justify="right")
            for quantity in medians["ours"]:
                table.add_row(quantity, *(_number(medians[name][quantity]) for name in medians))
        else:
            table.add_column("")
            table.add_column("median", justify="right")
            for name, value in medians.items():
                table.add_row(name, _number(value))
        console.print(table)
    table = Table("target", "wanted", "found", "reached", title="targets", title_justify="left")
    for record in records.values():
        for target in record["targets"]:
            table.add_row(
                target["name"], target["target"], _number(target["found"]), "yes" if target["reached"] else "NO"
            )
    console.print(table)


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.4g}"


def main() -> None:
    """Runs the chosen parts and writes each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "search.json")
    parser.add_argument("--repetitions", type=int, default=5, help="of orchestration and start")
    parser.add_argument("--trials", type=int, default=200, help="orchestration: trials of a run")
    parser.add_argument("--script-trials", type=int, default=40, help="orchestration: trials of the Ray script's run")
    parser.add_argument("--rows-a-month", type=int, default=40, help="orchestration: made-up flights")
    parser.add_argument("--search-trials", type=int, default=40, help="search: trials of the Ray script")
    parser.add_argument("--seeds", type=int, default=5, help="search: repetitions")
    parser.add_argument("--every", type=int, default=1, help="search: use every n-th flight")
    options = parser.parse_args()
    records = {}
    for part in PARTS if options.part == "all" else [options.part]:
        records[part] = measure(part, options)
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(before | {part: records[part]}, indent=1, ensure_ascii=False) + "\n")
    show(records)


if __name__ == "__main__":
    main()

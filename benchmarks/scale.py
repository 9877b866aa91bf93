"""What the driver costs when a search is large: 1,000 trials side by side, 10,000 in all, without the machines.

    python benchmarks/scale.py run [--quick]                 every search of the table, to benchmarks/results/scale.json
    python benchmarks/scale.py bound                         what TPE loses by looking at a part of a long history
    python benchmarks/scale.py record DIR                    takes the learning curves of a search that was run

The searcher, scheduler, session, study and loggers are the package's; what is simulated is the cluster
(mtlsearch/orchestrate/simulated_cluster.py). Trials replay curves that a real search of 40 trials measured
(scale_curves.json says which): each takes one of the five curves whose learning rates were nearest to its own. Every
search is a process of its own with one thread. Timed is what the driver does: suggest, report and end, with journal,
metrics.jsonl, model.json, leaderboard and the lines of a log; not timed are the simulated trials.

A sampler learns from history, so a search of 100 trials (10 side by side), of 1,000 (100) and of 10,000 (1,000) are
compared, each from its half on: CPU time of the driver for all that happened, over the reports in that time. With
`--random-first N` the first N trials of the largest are drawn at random, which saves an hour on a busy machine: what is
compared then is what comes after them.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypeVar

import optuna
from commands import circumstances
from rich.console import Console

from mtlsearch.config import Served, Task
from mtlsearch.config.search import RandomConfig, TpeConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.simulated_cluster import Curve, SimulatedClock, TuneCalls, simulate
from mtlsearch.records import EpochReport, TrialOrder, derive_seed
from mtlsearch.search import tpe
from mtlsearch.search.journal import AtomicJournal, StudyJournal
from mtlsearch.search.samplers import Asked, build_sampler
from mtlsearch.search.study import SearchStudy, is_apart
from mtlsearch.space import Experiment, read_experiment
from mtlsearch.tracking import terminal_tracker

HERE = Path(__file__).parent
CURVES = HERE / "scale_curves.json"
SPACE = HERE.parent / "search_spaces" / "quickstart.yaml"
SIZES = ((100, 10), (1_000, 100), (10_000, 1_000))
"""(trials, side by side)."""
NEAREST = 5
TOY_SLOTS = 16
SEARCHES = [("tpe", pruner) for pruner in ("median", "successive_halving", "percentile")] + [
    (sampler, "hyperband") for sampler in ("random", "qmc")
]
"""Of `run --every`, beside tpe with hyperband and with no pruner."""
Record = dict[str, Any]
T = TypeVar("T")


# The curves --------------------------------------------------------------------------------------------


def record(directory: Path) -> None:
    """Keeps of a search's trials what a replay needs."""
    from mtlsearch.search import read_records

    folder = ExperimentFolder.open(directory)
    plan = folder.read_plan()
    trials = [each for each in read_records(folder.journal) if each.role == "trial" and each.state == "COMPLETE"]
    first = folder.trial(trials[0].number)
    kept = {
        "from": f"{len(trials)} trials of {plan['source']} with {', '.join(plan['overrides'])}",
        "tasks": plan["tasks"],
        "like": {"metrics": first.epochs()[0].model_dump(), "model": json.loads(first.model.read_text())},
        "trials": [
            {
                "lr": each.params["optimizer.lr"],
                "objective": [round(epoch.objective, 5) for epoch in folder.trial(each.number).epochs()],
                "seconds": [round(epoch.seconds, 4) for epoch in folder.trial(each.number).epochs()],
            }
            for each in trials
        ],
    }
    CURVES.write_text(json.dumps(kept, separators=(",", ":")).replace('{"lr"', '\n{"lr"') + "\n")


class Recorded:
    """Curves of scale_curves.json for any configuration."""

    def __init__(self) -> None:
        kept = json.loads(CURVES.read_text())
        self.source: str = kept["from"]
        self.tasks = tuple(Task.model_validate_json(json.dumps(task)) for task in kept["tasks"])
        self._like, self._trials = kept["like"], kept["trials"]

    def curve(self, order: TrialOrder) -> Curve:
        """One of the nearest curves, by the trial's seed, a little up or down: no two trials are the same."""
        lr = math.log(order.config.optimizer.lr)
        nearest = sorted(self._trials, key=lambda trial: abs(math.log(trial["lr"]) - lr))[:NEAREST]
        chosen = nearest[order.seed % NEAREST]
        shift = (derive_seed("shift", order.seed) / 2**32 - 0.5) * 0.02
        return Curve(
            [
                self._report(epoch, objective + shift, seconds)
                for epoch, (objective, seconds) in enumerate(
                    zip(chosen["objective"], chosen["seconds"], strict=True), start=1
                )
            ],
            "the curve has no more epochs",
        )

    def _report(self, epoch: int, objective: float, seconds: float) -> EpochReport:
        like = self._like
        metrics = like["metrics"] | {"epoch": epoch, "objective": objective, "seconds": seconds}
        return EpochReport.model_validate_json(json.dumps({"metrics": metrics, "model": like["model"]}))


# One search --------------------------------------------------------------------------------------------


class Enough(Exception):
    """The last trial has been started; those that run stay as they are, for a resume."""


class Meter(TuneCalls):
    """Times what the driver does. CPU and wall seconds, of suggestions and of everything else."""

    def __init__(self, session: Session, slots: int, trials: int, random_first: int) -> None:
        super().__init__(session, slots)
        self._trials, self._late = trials, max(trials // 2, random_first)
        self._study = session._search._study
        self._random_first, self._sampler = random_first, self._study.sampler
        if random_first:
            self._study.sampler = build_sampler(RandomConfig(), session.experiment.space, 1, lambda config: True)
        self.suggested, self.reported = 0, 0
        self.suggest_s, self.report_s = [0.0, 0.0], [0.0, 0.0]
        self.half: tuple[int, int, float, float] | None = None

    def suggest(self, name: str) -> str | None:
        """Asks for a trial, until there are enough."""
        if self.suggested == self._trials:
            raise Enough
        order = self._timed(self.suggest_s, lambda: super(Meter, self).suggest(name))
        self.suggested += order is not None
        if self.suggested == self._random_first:
            self._study.sampler = self._sampler
        if self.suggested == self._late and self.half is None:
            self.half = (self.suggested, self.reported, self.suggest_s[0], self.report_s[0])
        return order

    def report(self, name: str, result: str) -> bool:
        """Takes a report."""
        self.reported += 1
        return self._timed(self.report_s, lambda: super(Meter, self).report(name, result))

    def _timed(self, total: list[float], call: Callable[[], T]) -> T:
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        total[0] += time.process_time() - cpu
        total[1] += time.perf_counter() - wall
        return result


def one(sampler: str, pruner: str, trials: int, slots: int, random_first: int, home: Path) -> Record:
    """A search of its own, from its start until its last trial starts, and its resume."""
    recorded = Recorded()
    experiment = read_experiment(
        SPACE,
        [
            f"search={{sampler: {sampler}, pruner: {pruner}, seed: 1}}",
            f"budget={{trials: {trials}, epochs: 10}}",
            "objective.metric=mean",
            "tracking.wandb=null",
        ],
    )
    folder = ExperimentFolder.create(home / "search", experiment.text, {"overrides": []}, "{}")
    clock = SimulatedClock()
    session, seconds, _ = _open(experiment, recorded, folder, clock)
    meter = Meter(session, slots, trials, random_first)
    with suppress(Enough), folder.driven(), session.searching():
        simulate(meter, slots, clock, recorded.curve)
    del session
    gc.collect()
    _, resume_s, resume_cpu_s = _open(experiment, recorded, folder, clock)
    assert meter.half is not None
    asks, reports, ask_s, report_s = meter.half
    ask_s, report_s = meter.suggest_s[0] - ask_s, meter.report_s[0] - report_s
    asks, reports = meter.suggested - asks, meter.reported - reports
    metrics = list(folder.path.glob("trials/*/metrics.jsonl"))
    return {
        "sampler": sampler,
        "pruner": pruner,
        "trials": trials,
        "side_by_side": slots,
        "random_first": random_first,
        "reports": meter.reported,
        "reports_per_s": meter.reported / (meter.suggest_s[1] + meter.report_s[1]),
        "reports_per_cpu_s": meter.reported / (meter.suggest_s[0] + meter.report_s[0]),
        "late": {
            "asks": asks,
            "reports": reports,
            "cpu_ms_per_ask": 1000 * ask_s / asks,
            "cpu_ms_per_report": 1000 * report_s / reports,
            "cpu_ms_per_report_asks_included": 1000 * (ask_s + report_s) / reports,
        },
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "journal_mb": folder.journal.stat().st_size / 1e6,
        "metrics_jsonl_mb": sum(path.stat().st_size for path in metrics) / 1e6,
        "start_s": seconds,
        "resume_s": resume_s,
        "resume_cpu_s": resume_cpu_s,
    }


def _open(
    experiment: Experiment, recorded: Recorded, folder: ExperimentFolder, clock: SimulatedClock
) -> tuple[Session, float, float]:
    """A driver, and the wall and CPU seconds until it can hand out trials."""
    console = Console(file=Path(os.devnull).open("w"), width=200)  # noqa: SIM115  # as long as the process
    cpu, wall = time.process_time(), time.perf_counter()
    served = Served(recorded.tasks, has_steps=False)
    session = Session(experiment, served, folder, [terminal_tracker(console)], clock=clock)
    return session, time.perf_counter() - wall, time.process_time() - cpu


# The bound of TPE's history ----------------------------------------------------------------------------


def bound(options: argparse.Namespace) -> Record:
    """Searches of a formula over the same space with Optuna's TPE and with ours, which looks at a part of a history."""
    raw: list[Record] = []
    for seed in range(options.seeds):
        for name, most in (("all", 10**9), ("bounded", tpe.MOST_FINISHED)):
            regrets, seconds = _toy_search(seed, options.trials, most)
            raw.append({"seed": seed, "history": name, "regret": regrets, "cpu_s": seconds})
            sys.stderr.write(f"{json.dumps(raw[-1])}\n")
    last = str(options.trials)
    found = {
        name: median(each["regret"][last] for each in raw if each["history"] == name) for name in ("all", "bounded")
    }
    return {
        "bound": {"command": f"python benchmarks/scale.py {' '.join(sys.argv[1:])}"}
        | circumstances()
        | {
            "parameters": {
                "most_finished": tpe.MOST_FINISHED,
                "most_running": tpe.MOST_RUNNING,
                "side_by_side": TOY_SLOTS,
                "trials": options.trials,
                "seeds": options.seeds,
            },
            "raw": raw,
            "medians": found,
            "targets": [],
        }
    }


def _toy_search(seed: int, trials: int, most: int) -> tuple[dict[str, float], float]:
    """How far what is proposed is from the optimum (0), the mean of the last hundred proposals; and CPU seconds.

    What the study is told has noise, so that the last proposals are not all the same.
    """
    bounds, tpe.MOST_FINISHED = tpe.MOST_FINISHED, most
    space = read_experiment(SPACE).space
    sampler = build_sampler(TpeConfig(), space, seed, lambda config: True)
    noise, values, regrets, start = random.Random(seed), deque[float](maxlen=100), {}, time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        journal = AtomicJournal(Path(scratch) / "study.journal")
        with journal.transaction():  # no disk
            storage = StudyJournal(journal, is_apart)
            storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "toy")
            study = SearchStudy(study_name="toy", storage=storage, sampler=sampler)
            running: deque[tuple[int, float]] = deque()
            for number in range(1, trials + 1):
                trial = study.ask()
                space.suggest(Asked(trial))
                values.append(_toy(trial.params))
                running.append((trial.number, values[-1] + noise.gauss(0, 0.1)))
                if len(running) == TOY_SLOTS:
                    study.tell(*running.popleft())
                if number in (250, 500, 1_000, trials):
                    regrets[str(number)] = -fmean(values)
    tpe.MOST_FINISHED = bounds
    return regrets, time.process_time() - start


def _toy(params: dict[str, Any]) -> float:
    """At most 0, at one place: a wide mmoeex of 6 experts, half of them exclusive, at a learning rate of 0.0025."""
    kinds = ("mmoeex", "mmoe", "shared_bottom", "single_task")
    kind = next(value for name, value in params.items() if name in ("model", "model.kind"))
    value = -((math.log10(params["optimizer.lr"]) - math.log10(0.0025)) ** 2) - 0.05 * kinds.index(kind)
    numbers: dict[str, float] = {name: value for name, value in params.items() if not isinstance(value, str)}
    for name, number in numbers.items():
        if name.endswith("num_experts"):
            value -= 0.1 * (math.log2(number / 6)) ** 2
        elif name.endswith("alpha"):
            value -= (number - 0.5) ** 2
        elif name.endswith("num_layers"):
            value -= 0.02 * (number - 1)
        elif name.endswith("hidden"):
            value -= 0.02 * abs(math.log2(number / 64))
    return value


# All of them -------------------------------------------------------------------------------------------


def run(options: argparse.Namespace) -> Record:
    """Every search in a process of its own."""
    sizes = [(trials // 10, slots // 10) for trials, slots in SIZES[1:]] if options.quick else list(SIZES)
    wanted = [("tpe", "hyperband", *size) for size in sizes] + [("tpe", "none", *size) for size in sizes]
    if options.every:
        wanted += [(*each, *sizes[-1]) for each in SEARCHES]
    raw = []
    for each in wanted:
        raw.append(_alone(*each, options))
        sys.stderr.write(f"{json.dumps(raw[-1])}\n")
    targets = []
    for pruner, each_trial in (("none", "10 reports a trial"), ("hyperband", "as many as are let")):
        small, large = (_found(raw, pruner, *size) for size in (sizes[0], sizes[-1]))
        named, per_s = f"tpe, {pruner}, {each_trial}", 1000 / _late(large)
        growth = _late(large) / _late(small)
        targets += [
            _target(f"reports a CPU second of the driver, asks included ({named})", 500, per_s, at_least=True),
            _target(f"CPU time a report at {sizes[-1][0]:,} trials, of that at {sizes[0][0]:,} ({named})", 2, growth),
        ]
    large = _found(raw, "none", *sizes[-1])
    targets += [
        _target("peak memory of the driver, MB", 2000, large["peak_rss_mb"]),
        _target(f"seconds to resume {sizes[-1][0]:,} trials", 60, large["resume_s"]),
    ]
    return {
        "scale": {"command": f"python benchmarks/scale.py {' '.join(sys.argv[1:])}"}
        | circumstances()
        | {
            "parameters": {
                "trials": sizes[-1][0],
                "side_by_side": sizes[-1][1],
                "random_first": options.random_first,
                "epochs": 10,
                "curves": Recorded().source,
            },
            "raw": raw,
            "targets": targets,
        }
    }


def _alone(sampler: str, pruner: str, trials: int, slots: int, options: argparse.Namespace) -> Record:
    home = Path(tempfile.mkdtemp(prefix="scale-", dir=options.home))
    try:
        random_first = options.random_first if trials == SIZES[-1][0] else 0
        words = [
            sys.executable,
            __file__,
            "one",
            sampler,
            pruner,
            str(trials),
            str(slots),
            str(random_first),
            str(home),
        ]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=one_thread)
        return dict(json.loads(done.stdout))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _found(raw: list[Record], pruner: str, trials: int, slots: int) -> Record:
    wanted = {"sampler": "tpe", "pruner": pruner, "trials": trials, "side_by_side": slots}
    return next(each for each in raw if wanted.items() <= each.items())


def _late(record: Record) -> float:
    return float(record["late"]["cpu_ms_per_report_asks_included"])


def _target(name: str, wanted: float, found: float, *, at_least: bool = False) -> Record:
    return {
        "name": name,
        "target": f"{'≥' if at_least else '≤'} {wanted:g}",
        "found": found,
        "reached": found >= wanted if at_least else found <= wanted,
    }


def main() -> None:
    """Measures and writes, or does one part of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    every = parts.add_parser("run")
    every.add_argument("--every", action="store_true", help="other samplers and pruners too")
    every.add_argument("--quick", action="store_true", help="a tenth of the trials, and no file")
    every.add_argument("--random-first", type=int, default=0, help="trials of the largest searches drawn at random")
    every.add_argument("--home", type=Path, help="where the experiments' folders lie meanwhile; else the temp folder")
    every.add_argument("--out", type=Path, default=HERE / "results" / "scale.json")
    bounded = parts.add_parser("bound")
    bounded.add_argument("--trials", type=int, default=1_500)
    bounded.add_argument("--seeds", type=int, default=5)
    bounded.add_argument("--out", type=Path, default=HERE / "results" / "scale.json")
    parts.add_parser("record").add_argument("directory", type=Path)
    single = parts.add_parser("one")
    for name in ("sampler", "pruner"):
        single.add_argument(name)
    for name in ("trials", "slots", "random_first"):
        single.add_argument(name, type=int)
    single.add_argument("home", type=Path)
    options = parser.parse_args()
    if options.part == "record":
        record(options.directory)
    elif options.part == "one":
        result = one(options.sampler, options.pruner, options.trials, options.slots, options.random_first, options.home)
        sys.stdout.write(json.dumps(result) + "\n")
    elif options.part == "bound":
        _write(options.out, bound(options))
    elif options.quick:
        sys.stdout.write(json.dumps(run(options), indent=1) + "\n")
    else:
        _write(options.out, run(options))


def _write(out: Path, found: Record) -> None:
    """A part that is measured again replaces its record, no other."""
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(before | found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

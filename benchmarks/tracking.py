"""What mirroring to W&B costs a trial: a search with and without it, in turns, CPU time of all their processes.

python benchmarks/tracking.py [--rounds 5] [--out benchmarks/results/tracking.json]

Trials are real: flights, an MMoEEx with 8 experts. Runs go offline, so that what is measured is ours and
W&B's work, not a network. A trial's cost is the slope between searches of few and of many trials, which leaves out
what a search pays once: imports, W&B's own process, pictures and export at its end. These are told apart.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from importlib import metadata
from pathlib import Path
from typing import Any

FEW, MANY = 1, 5
TARGET = 0.01
SPACE = """
name: tracking
data: {{source: flights}}
space: {{model: {{kind: mmoeex, num_experts: 8, alpha: 0.5, hidden: 32}}, batch_size: 512}}
objective: {{metric: mean}}
search: {{sampler: random, pruner: none, seed: 3}}
budget: {{trials: {trials}, epochs: {epochs}}}
{tracking}
"""


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tracking.json")
    given = parser.parse_args()
    cpu_seconds("", 1, 1)  # the data's cache is warm
    rounds = [measured(given.epochs) for _ in range(given.rounds)]
    trial = statistics.median(each["trial_s"] for each in rounds)
    logging = logging_seconds(given.epochs)
    found = logging / trial
    target = {"name": "W&B's CPU time a trial, as a share of the trial's", "target": "< 0.01", "found": found}
    record = {
        "parameters": {"rounds": given.rounds, "epochs": given.epochs, "data": "flights", "trials": [FEW, MANY]},
        "versions": {name: metadata.version(name) for name in ("wandb", "torch", "optuna")},
        "raw": rounds,
        "medians": {
            "trial_s": trial,
            "logging_s": logging,
            "difference_s": statistics.median(each["difference_s"] for each in rounds),
            "once_s": statistics.median(each["once_s"] for each in rounds),
        },
        "targets": [target | {"reached": found < TARGET}],
    }
    given.out.write_text(json.dumps({"tracking": record}, indent=1) + "\n")
    sys.stdout.write(json.dumps(record["medians"], indent=1) + "\n")


def measured(epochs: int) -> dict[str, float]:
    """One round: CPU seconds of a trial without W&B, what W&B adds to a trial, and to a search once."""
    tracked = "tracking: {wandb: {project: p, mode: offline}}"
    few, many = cpu_seconds("", FEW, epochs), cpu_seconds("", MANY, epochs)
    few_tracked, many_tracked = cpu_seconds(tracked, FEW, epochs), cpu_seconds(tracked, MANY, epochs)
    trial = (many - few) / (MANY - FEW)
    added = (many_tracked - few_tracked) / (MANY - FEW) - trial
    return {"trial_s": trial, "difference_s": added, "once_s": few_tracked - few - FEW * added}


def cpu_seconds(tracking: str, trials: int, epochs: int) -> float:
    """Of a whole search, W&B's process included."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "space.yaml").write_text(SPACE.format(trials=trials, epochs=epochs, tracking=tracking))
        command = [sys.executable, "-m", "mtlsearch", "run", "space.yaml", "--out", "out", "--engine", "local"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def logging_seconds(epochs: int, trials: int = 40) -> float:
    """CPU seconds a trial that the mirror alone takes, W&B's process included: many trials told, none trained."""
    with tempfile.TemporaryDirectory() as name:
        few, many = (_told(Path(name) / str(count), count, epochs) for count in (trials // 4, trials))
    return (many - few) / (trials - trials // 4)


def _told(folder: Path, trials: int, epochs: int) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, __file__, "--tell", str(folder), str(trials), str(epochs)]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tell(folder: Path, trials: int, epochs: int) -> None:
    """A tracker hears of so many trials, with as many values an epoch as flights' four tasks give."""
    from mtlsearch.config import MMoEExConfig, TrialConfig, WandbConfig
    from mtlsearch.records import CONTINUE, EpochMetrics, MixtureMetrics, TrialOrder, TrialRecord
    from mtlsearch.space import flatten
    from mtlsearch.tracking import SearchState
    from mtlsearch.tracking.wandb import WandbTracker
    from mtlsearch.tracking.wandb.session import Mirrored

    folder.mkdir()
    tasks = ("cancelled", "dep_late15", "arr_delay", "air_time")
    config = TrialConfig(model=MMoEExConfig())
    tracker = WandbTracker(Mirrored(WandbConfig(mode="offline"), folder, "told", "id"))
    state = SearchState({}, trials, 0, 0, None, None, 0.0, None)
    plain: dict[str, Any] = {"learning_rate": 1e-3, "grad_norm": 1.0, "seconds": 1.0, "samples_per_second": 1.0}
    mixture = MixtureMetrics(
        diversity=0.5, diversity_off_diagonal=0.5, gate_entropy=dict.fromkeys(tasks, 1.0), dead_experts=0
    )
    for number in range(trials):
        order = TrialOrder(
            number=number, role="trial", config=config, seed=1, epochs=epochs, tasks=tasks, metric="mean"
        )
        tracker.trial_started(order, dict(flatten(config)))
        for epoch in range(1, epochs + 1):
            scores = {task: {"a": epoch / 8, "b": 0.5, "c": 0.25} for task in tasks}
            each = dict.fromkeys(tasks, 0.5)
            metrics = EpochMetrics(
                epoch=epoch,
                objective=0.5,
                validation=scores,
                train_loss=each,
                task_weights=each,
                mixture=mixture,
                **plain,
            )
            tracker.epoch_finished(order, metrics, CONTINUE)
        tracker.trial_finished(order, TrialRecord(number, "trial", "COMPLETE", {}, 0.5, "trained all"), state)
    tracker.search_finished(state)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--tell"]:
        tell(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()

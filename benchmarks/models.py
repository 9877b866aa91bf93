"""One training step of a mixture of experts, beside two packages and the module list that one would write.

    python benchmarks/models.py dense|recurrent|all --out benchmarks/results/models.json

The packages come with the extra `bench`. One thread, CPU time; contestants take turns in every round, another one
first each time. A part that is run again replaces its record in the file, no other.

dense: forward, backward and Adam at every shape of the grid; the same weights, the same outputs.
recurrent: the same with LSTM experts, beside a loop over nn.LSTM; how often torch.lstm runs whatever the tasks.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from commands import circumstances
from models_contestants import EQUAL, NUM_INPUTS, TOWER_HIDDEN, Contestant, Shape, contestants
from models_recurrent import NUM_STEPS, SequenceShape, recurrent_contestants
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

HERE = Path(__file__).parent
PACKAGES = ("torch-rechub", "deepctr-torch")
DENSE = [Shape(*cell) for cell in product((4, 8, 16), (2, 4, 12), (32, 128), (128, 1024))]
RECURRENT = [SequenceShape(*cell) for cell in product((4, 8), (2, 4))]
TOLERANCE = 1e-6
SECONDS_PER_TURN = 0.01
"""A turn repeats short steps, so that the clock's grain is nothing."""

Record = dict[str, Any]
Step = Callable[[], None]


# Timing ------------------------------------------------------------------------------------------------


def training_step(contestant: Contestant, x: Tensor, y_BK: Tensor, optimizer: Optimizer) -> Step:
    """Forward, the tasks' mean binary cross-entropy, backward, one update."""

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = F.binary_cross_entropy_with_logits(contestant.outputs(x), y_BK)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def seconds_per_step(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each contestant's step, one number a round, in an order of its own each round: what a long step
    leaves behind slows the next one, and that should not always be the same."""
    repeats = {name: _repeats(step) for name, step in steps.items()}
    found: dict[str, list[float]] = {name: [] for name in steps}
    draw = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in draw.sample(list(steps), len(steps)):
                found[name].append(_timed(steps[name], repeats[name]))
    finally:
        gc.enable()
    return found


def _timed(step: Step, repeats: int) -> float:
    step()  # what the one before left in the caches is not this one's
    start = time.process_time()
    for _ in range(repeats):
        step()
    return (time.process_time() - start) / repeats


def _repeats(step: Step) -> int:
    once = min(_timed(step, 2) for _ in range(2))
    return max(1, round(SECONDS_PER_TURN / once))


# Dense experts -----------------------------------------------------------------------------------------


def dense(options: argparse.Namespace) -> Record:
    """Every shape of the grid; ours with fused Adam against theirs with it and with their usual one."""
    raw = []
    for shape in DENSE[:: options.every]:
        raw.append(dense_cell(shape, options.rounds))
        print(shape, {name: round(ratio, 3) for name, ratio in raw[-1]["ratios"].items()}, flush=True)
    others = [name for name in raw[0]["ratios"] if name != "mtlsearch"]
    medians = {
        f"{name}, {adam}": median(cell[ratios][name] for cell in raw)
        for name in others
        for adam, ratios in (("Adam(fused=True)", "ratios"), ("Adam()", "ratios_with_usual_adam"))
    }
    return {
        "parameters": {
            "inputs": NUM_INPUTS,
            "expert_layers": 1,
            "tower_hidden": TOWER_HIDDEN,
            "rounds": options.rounds,
            "threads": 1,
            "optimizer": "torch.optim.Adam(fused=True) for everybody; `usual_adam`: ours fused, theirs Adam()",
            "loss": "binary cross-entropy of logits, mean over tasks",
            "equal": "outputs within 1e-6 of ours before timing: " + ", ".join(EQUAL),
            "not_equal": "torch-rechub as it comes: no option turns off the BatchNorm behind every layer and gate",
        },
        "raw": raw,
        "medians": medians,
        "targets": [target for name in others for target in _dense_targets(name, raw)],
    }


def dense_cell(shape: Shape, rounds: int) -> Record:
    """Medians of one shape, and how many times ours each of the others takes."""
    generator = torch.Generator().manual_seed(1)
    x_BI = torch.randn(shape.batch, NUM_INPUTS, generator=generator)
    y_BK = torch.randint(2, (shape.batch, shape.num_tasks), generator=generator).float()
    fused, usual = contestants(shape), contestants(shape)
    for name in EQUAL:
        check_equal(name, fused["mtlsearch"].outputs(x_BI), fused[name].outputs(x_BI))
    steps = {name: training_step(one, x_BI, y_BK, adam(one.model, fused=True)) for name, one in fused.items()}
    steps |= {
        f"{name}, Adam()": training_step(one, x_BI, y_BK, adam(one.model, fused=None))
        for name, one in usual.items()
        if name != "mtlsearch"
    }
    seconds = seconds_per_step(steps, rounds)
    medians = {name: median(values) for name, values in seconds.items()}
    times = {name: value / medians["mtlsearch"] for name, value in medians.items()}
    others = [name for name in fused if name != "mtlsearch"]
    return {
        "experts": shape.num_experts,
        "tasks": shape.num_tasks,
        "hidden": shape.hidden,
        "batch": shape.batch,
        "median_ms": {name: round(1000 * value, 4) for name, value in medians.items()},
        "ratios": {name: times[name] for name in others},
        "ratios_with_usual_adam": {name: times[f"{name}, Adam()"] for name in others},
    }


def adam(model: nn.Module, fused: bool | None) -> Adam:
    """The product's Adam, or with None the one that Adam(parameters) is."""
    return Adam(model.parameters(), lr=1e-3, fused=fused)


def check_equal(name: str, ours: Tensor, theirs: Tensor) -> None:
    """Refuses to time what computes something else."""
    worst = (ours - theirs).abs().max().item()
    if worst > TOLERANCE:
        raise RuntimeError(f"{name} gives other outputs than mtlsearch: {worst:.2g} apart, {TOLERANCE:g} allowed")


def _dense_targets(name: str, raw: list[Record]) -> list[Record]:
    wanted = 1.6 if name == "module list" else 1.3
    ratios = [cell["ratios"][name] for cell in raw]
    return [
        _target(f"times as fast as {name}, median of {len(raw)} shapes", wanted, median(ratios)),
        _target(f"times as fast as {name}, at the worst of them", 1.0, min(ratios)),
    ]


# Recurrent experts -------------------------------------------------------------------------------------


def recurrent(options: argparse.Namespace) -> Record:
    """LSTM experts; the calls are counted in one forward."""
    raw = []
    for shape in RECURRENT:
        raw.append(recurrent_cell(shape, options.rounds))
        print(shape, round(raw[-1]["ratio"], 3), flush=True)
    calls = {
        f"E={num_experts} K={num_tasks}": lstm_calls(SequenceShape(num_experts, num_tasks))
        for num_experts, num_tasks in product((4, 8), (2, 12))
    }
    surplus = max(count / int(cell.split()[0][2:]) for cell, count in calls.items())
    ratios = [cell["ratio"] for cell in raw]
    return {
        "parameters": {"rounds": options.rounds, "threads": 1, "steps": NUM_STEPS, "optimizer": "Adam(fused=True)"},
        "raw": raw,
        "lstm_calls": calls,
        "medians": {"ratio": median(ratios), "worst_ratio": min(ratios)},
        "targets": [
            _target("runs of each LSTM expert a step, 2 or 12 tasks", 1, surplus, at_least=False),
            _target(f"times as fast as a loop over nn.LSTM, at the worst of {len(raw)} shapes", 1.0, min(ratios)),
        ],
    }


def recurrent_cell(shape: SequenceShape, rounds: int) -> Record:
    """Medians of one shape."""
    made = recurrent_contestants(shape)
    x_BTS, y_PK = made.numeric_BTS, made.labels_PK
    check_equal("the loop over nn.LSTM", made.ours.outputs(x_BTS), made.loop.outputs(x_BTS))
    pair = {"mtlsearch": made.ours, "loop over nn.LSTM": made.loop}
    steps = {name: training_step(one, x_BTS, y_PK, adam(one.model, fused=True)) for name, one in pair.items()}
    medians = {name: median(values) for name, values in seconds_per_step(steps, rounds).items()}
    return {
        "experts": shape.num_experts,
        "tasks": shape.num_tasks,
        "hidden": shape.hidden,
        "median_ms": {name: round(1000 * value, 4) for name, value in medians.items()},
        "ratio": medians["loop over nn.LSTM"] / medians["mtlsearch"],
    }


def lstm_calls(shape: SequenceShape) -> int:
    """How often one forward calls torch.lstm."""
    made = recurrent_contestants(shape)
    with mock.patch("torch.lstm", wraps=torch.lstm) as lstm:
        made.ours.outputs(made.numeric_BTS)
    return lstm.call_count


# All of it ---------------------------------------------------------------------------------------------


def _target(name: str, wanted: float, found: float, *, at_least: bool = True) -> Record:
    is_reached = found >= wanted if at_least else found <= wanted
    return {"name": name, "target": f"{'≥' if at_least else '≤'} {wanted:g}", "found": found, "reached": is_reached}


PARTS = {"dense": dense, "recurrent": recurrent}


def measure(part: str, options: argparse.Namespace) -> Record:
    """One part on one thread."""
    torch.set_num_threads(1)
    record = {"command": f"python benchmarks/models.py {' '.join(sys.argv[1:])}"} | circumstances()
    record["versions"] |= {name: metadata.version(name) for name in PACKAGES}
    return record | PARTS[part](options)


def show(records: Iterable[Record]) -> None:
    """The targets as a table."""
    table = Table("target", "wanted", "found", "reached", title="targets", title_justify="left")
    for target in (target for record in records for target in record["targets"]):
        table.add_row(target["name"], target["target"], f"{target['found']:.4g}", "yes" if target["reached"] else "NO")
    Console().print(table)


def main() -> None:
    """Runs the chosen parts and writes each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "models.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--every", type=int, default=1, help="dense: only every nth shape, for a quick look")
    options = parser.parse_args()
    records = {}
    for part in PARTS if options.part == "all" else [options.part]:
        records[part] = measure(part, options)
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(before | {part: records[part]}, indent=1, ensure_ascii=False) + "\n")
    show(records.values())


if __name__ == "__main__":
    main()

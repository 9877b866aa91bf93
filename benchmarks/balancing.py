"""What a balancing method's training step costs, beside the plain sum of the losses, and MAML-MTL beside deep copies.

    python benchmarks/balancing.py relative|copies|all --out benchmarks/results/balancing.json

One thread, CPU time; methods take turns in every round, each round in an order of its own. A part that is run again
replaces its record in the file, no other. The step is the product's own: losses, balancer, fused Adam.

relative: every method at 2, 4 and 12 tasks, as a multiple of `uniform` in the same round's turns, on two models:
    of one layer on 500 inputs, as a table of one-hot columns gives, where almost all work is that layer's; and of two
    layers on 64, as embedded columns give. MAML-MTL with the batch split 80 to 20, as published, and with all of it
    on both sides.
copies: MAML-MTL beside a deep copy of the module for each task with `create_graph=True`; equal gradients first.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from balancing_copies import backward_by_copies
from commands import circumstances
from models import Record, Step, adam, seconds_per_step, show
from models_contestants import NUM_INPUTS, TOWER_HIDDEN, Shape, binary_tasks, mtlsearch_mmoe
from models_recurrent import BATCH, NUM_STEPS, SequenceShape, ours_on_steps
from models_recurrent import NUM_INPUTS as NUM_STEP_INPUTS
from torch import Tensor, nn

from mtlsearch.balancing import build_balancer
from mtlsearch.config import (
    AlignedMtlConfig,
    BalancingConfig,
    CaGradConfig,
    DtpConfig,
    DwaConfig,
    FairGradConfig,
    GradDropConfig,
    GradNormConfig,
    ImtlGConfig,
    LeeSonConfig,
    MamlMtlConfig,
    ManualConfig,
    MgdaConfig,
    MMoEConfig,
    NashMtlConfig,
    PcGradConfig,
    RandomConfig,
    UncertaintyConfig,
    UniformConfig,
    UpGradConfig,
    WorstCaseConfig,
)
from mtlsearch.models import Inputs, InputSpec, build_model
from mtlsearch.models.inputs import StepInputs
from mtlsearch.train.batch import Batch
from mtlsearch.train.distributed import World
from mtlsearch.train.losses import BatchLosses, LossTable
from mtlsearch.train.step import train_step

HERE = Path(__file__).parent
NUM_TASKS = (2, 4, 12)
ROWS = 256
WEIGHTINGS: dict[str, BalancingConfig] = {
    "uncertainty": UncertaintyConfig(),
    "dtp": DtpConfig(),
    "dwa": DwaConfig(),
    "gradnorm": GradNormConfig(),
    "worst_case": WorstCaseConfig(),
    "random": RandomConfig(),
}
GRADIENTS: dict[str, BalancingConfig] = {
    "pcgrad": PcGradConfig(),
    "mgda": MgdaConfig(),
    "imtl_g": ImtlGConfig(),
    "upgrad": UpGradConfig(),
    "cagrad": CaGradConfig(),
    "aligned_mtl": AlignedMtlConfig(),
    "fairgrad": FairGradConfig(),
    "nash_mtl": NashMtlConfig(),
    "graddrop": GradDropConfig(),
}
TWO_STEPS: dict[str, BalancingConfig] = {
    "maml_mtl": MamlMtlConfig(inner_fraction=0.8),
    "maml_mtl, second order": MamlMtlConfig(inner_fraction=0.8, order=2),
    "maml_mtl, full": MamlMtlConfig(),
    "maml_mtl, full, second order": MamlMtlConfig(order=2),
    "lee_son, full": LeeSonConfig(),
    "lee_son, full, second order": LeeSonConfig(order=2),
}
MODELS: dict[str, tuple[int, dict[str, Any]]] = {
    "one layer, 500 inputs": (500, {"hidden": 64}),
    "two layers, 64 inputs": (64, {"hidden": 64, "expert": {"kind": "dense", "num_layers": 2}}),
}
"""Inputs and what an MMoE of 8 experts has besides."""
AT_MOST: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys(("manual", *WEIGHTINGS), (1.05, 1.05, 1.05)),
    **dict.fromkeys(("pcgrad", "mgda", "imtl_g", "upgrad"), (1.6, 2.3, 3.5)),
    "maml_mtl": (1.7, 2.9, 8),
    "maml_mtl, second order": (2.6, 4.2, 12),
}
TOLERANCE = 1e-5
CPU = torch.device("cpu")


def methods(num_tasks: int) -> dict[str, BalancingConfig]:
    """Every method."""
    weights = {task.name: 1.0 + number for number, task in enumerate(binary_tasks(num_tasks))}
    return {"uniform": UniformConfig(), "manual": ManualConfig(weights=weights)} | WEIGHTINGS | GRADIENTS | TWO_STEPS


# Steps -------------------------------------------------------------------------------------------------


def dense_batch(num_rows: int, num_tasks: int, num_inputs: int = NUM_INPUTS) -> Batch:
    """Made-up rows."""
    draw = torch.Generator().manual_seed(1)
    numeric_BF = torch.randn(num_rows, num_inputs, generator=draw)
    labels_BK = torch.randint(2, (num_rows, num_tasks), generator=draw).float()
    return Batch(Inputs(numeric_BF, torch.zeros(num_rows, 0, dtype=torch.int64)), labels_BK)


def sequence_batch(num_tasks: int) -> Batch:
    """Made-up sequences with a label at each step."""
    draw = torch.Generator().manual_seed(1)
    numeric_BTS = torch.randn(BATCH, NUM_STEPS, NUM_STEP_INPUTS, generator=draw)
    num_predictions = BATCH * NUM_STEPS
    steps = StepInputs(
        numeric_BTS,
        torch.zeros(BATCH, NUM_STEPS, 0, dtype=torch.int64),
        torch.full((BATCH,), NUM_STEPS),
        torch.arange(num_predictions),
    )
    labels_PK = torch.randint(2, (num_predictions, num_tasks), generator=draw).float()
    inputs = Inputs(torch.zeros(BATCH, 0), torch.zeros(BATCH, 0, dtype=torch.int64), steps)
    return Batch(inputs, labels_PK, row_P=torch.arange(BATCH).repeat_interleave(NUM_STEPS))


def balanced_step(model: nn.Module, batch: Batch, config: BalancingConfig) -> Step:
    """The product's."""
    tasks = binary_tasks(batch.labels_PL.shape[1])
    table, trainee = LossTable(tasks, CPU), World().wrap(model)  # type: ignore[arg-type]
    balancer = build_balancer(config, tasks, seed=0)
    balancer.begin_epoch(1)
    optimizer = torch.optim.Adam([*model.parameters(), *balancer.parameters], lr=1e-3, fused=True)

    def step() -> None:
        losses = BatchLosses(trainee, batch, table, World(), inner_fraction=balancer.inner_fraction)
        train_step(losses, balancer, optimizer, None)

    return step


def copying_step(model: nn.Module, batch: Batch, lr: float) -> Step:
    """The usual one."""
    table = LossTable(binary_tasks(batch.labels_PL.shape[1]), CPU)
    trainee, optimizer = World().wrap(model), adam(model, fused=True)  # type: ignore[arg-type]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        backward_by_copies(trainee, batch, table, lr)
        optimizer.step()

    return step


# Relative cost -----------------------------------------------------------------------------------------


def relative(options: argparse.Namespace) -> Record:
    """Every method beside `uniform`."""
    raw = [relative_cell(name, num_tasks, options.rounds) for name in MODELS for num_tasks in NUM_TASKS]
    targets = [
        _target(
            f"{method}: step, times uniform's, {cell['tasks']} tasks, {cell['model']}",
            AT_MOST[method][NUM_TASKS.index(cell["tasks"])],
            cell["ratios"][method],
        )
        for method in AT_MOST
        for cell in raw
    ]
    parameters = {
        "architecture": "MMoE, 8 dense experts of 64 units",
        "models": {name: {"inputs": num_inputs, **fields} for name, (num_inputs, fields) in MODELS.items()},
        "batch": ROWS,
        "tower_hidden": TOWER_HIDDEN,
        "rounds": options.rounds,
        "threads": 1,
        "optimizer": "Adam(fused=True), in the step",
    }
    return {"parameters": parameters, "raw": raw, "targets": targets}


def relative_cell(name: str, num_tasks: int, rounds: int) -> Record:
    """One model; each method's ratio is the median of its rounds' over uniform's."""
    num_inputs, fields = MODELS[name]
    config = MMoEConfig.model_validate({"num_experts": 8, "tower_hidden": TOWER_HIDDEN, **fields})
    batch, tasks = dense_batch(ROWS, num_tasks, num_inputs), binary_tasks(num_tasks)
    steps = {
        method: balanced_step(build_model(config, InputSpec(num_inputs, ()), tasks, seed=0), batch, balancing)
        for method, balancing in methods(num_tasks).items()
    }
    medians = {method: median(values) for method, values in seconds_per_step(steps, rounds).items()}
    ratios = {method: value / medians["uniform"] for method, value in medians.items()}
    print(name, num_tasks, "tasks", {method: round(ratio, 2) for method, ratio in ratios.items()}, flush=True)
    return {
        "model": name,
        "tasks": num_tasks,
        "median_ms": {method: round(1000 * value, 4) for method, value in medians.items()},
        "ratios": ratios,
    }


# Beside deep copies ------------------------------------------------------------------------------------


def copies(options: argparse.Namespace) -> Record:
    """First-order MAML-MTL, ours and by copies of the same module."""
    dense, recurrent = Shape(12, 3, 64, 256), SequenceShape(12, 4)
    raw = [
        copies_cell("dense", [mtlsearch_mmoe(dense).model for _ in range(2)], dense_batch(256, 3), options.rounds),
        copies_cell("LSTM", [ours_on_steps(recurrent).model for _ in range(2)], sequence_batch(4), options.rounds),
    ]
    wanted = {"dense": (2.5, "E=12 K=3 B=256"), "LSTM": (2.0, f"E=12 K=4 T={NUM_STEPS} B={BATCH}")}
    targets = [
        _target(
            f"maml_mtl: times as fast as by deep copies, {cell['experts']} experts, {wanted[cell['experts']][1]}",
            wanted[cell["experts"]][0],
            cell["ratio"],
            at_least=True,
        )
        for cell in raw
    ]
    parameters = {"rounds": options.rounds, "threads": 1, "order": 1, "equal": f"gradients within {TOLERANCE:g} first"}
    return {"parameters": parameters, "raw": raw, "targets": targets}


def copies_cell(experts: str, models: list[nn.Module], batch: Batch, rounds: int) -> Record:
    """Medians of both, which start from the same weights."""
    config = MamlMtlConfig()
    check_equal(*(gradients_after(model, batch, config, way) for way, model in enumerate(models)))
    steps = {
        "mtlsearch": balanced_step(models[0], batch, config),
        "deep copies": copying_step(models[1], batch, config.inner_lr),
    }
    medians = {name: median(values) for name, values in seconds_per_step(steps, rounds).items()}
    ratio = medians["deep copies"] / medians["mtlsearch"]
    print(experts, round(ratio, 2), flush=True)
    return {"experts": experts, "median_ms": {n: round(1000 * v, 4) for n, v in medians.items()}, "ratio": ratio}


def gradients_after(model: nn.Module, batch: Batch, config: MamlMtlConfig, way: int) -> list[Tensor]:
    """Of our way, 0, or by copies, 1."""
    tasks = binary_tasks(batch.labels_PL.shape[1])
    table, trainee = LossTable(tasks, CPU), World().wrap(model)  # type: ignore[arg-type]
    if way == 0:
        build_balancer(config, tasks, seed=0).backward(BatchLosses(trainee, batch, table, World()))
    else:
        backward_by_copies(trainee, batch, table, config.inner_lr)
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def check_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Refuses to time what computes something else."""
    worst = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    if worst > TOLERANCE:
        raise RuntimeError(f"the copies give other gradients: {worst:.2g} apart, {TOLERANCE:g} allowed")


# All of it ---------------------------------------------------------------------------------------------


def as_after_loading() -> None:
    """Frees a block of data, as a trial does before it trains: glibc's malloc keeps what is freed from then on.

    Its thresholds follow the largest block that was freed. In a process that has never freed one, each tensor of
    half a megabyte is asked of the kernel anew at every step.
    """
    torch.ones(8_000_000)


def _target(name: str, wanted: float, found: float, *, at_least: bool = False) -> Record:
    is_reached = found >= wanted if at_least else found <= wanted
    return {"name": name, "target": f"{'≥' if at_least else '≤'} {wanted:g}", "found": found, "reached": is_reached}


PARTS = {"relative": relative, "copies": copies}


def main() -> None:
    """Runs the chosen parts and writes each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "balancing.json")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    as_after_loading()
    records: dict[str, Any] = {}
    for part in PARTS if options.part == "all" else [options.part]:
        record = {"command": f"python benchmarks/balancing.py {' '.join(sys.argv[1:])}"} | circumstances()
        records[part] = record | PARTS[part](options)
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(before | {part: records[part]}, indent=1, ensure_ascii=False) + "\n")
    show(records.values())


if __name__ == "__main__":
    main()

"""Writes the benchmarks' tables into README.md, from benchmarks/results/*.json.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
RESULTS = HERE / "results"
TABLES = ("search", "data", "models", "quality", "balancing", "tracking", "scale", "chaos")
"""Each is RESULTS/NAME.json, and stands between <!-- NAME --> and <!-- /NAME -->."""


def table(results: dict[str, Any]) -> str:
    """The targets of every part with what was found, and what the numbers were measured with."""
    if "chaos" in results:
        return "\n".join([*_chaos(results["chaos"]), ""])
    targets = [target for part, record in results.items() for target in record["targets"] if part != "relative"]
    lines = ["| What | Wanted | Found | Reached |", "|---|---|---|---|", *map(_row, targets)]
    if "relative" in results:
        lines = [*_ratios(results["relative"]), "", *lines]
    notes = [f"- {line}" for line in _circumstances(results)]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def updated(readme: str) -> str:
    """README's text with the tables of the results that are there."""
    for name in TABLES:
        results = RESULTS / f"{name}.json"
        before, begin, rest = readme.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        readme = before + begin + table(json.loads(results.read_text())) + end + after
    return readme


def _row(target: dict[str, Any]) -> str:
    found = "not reached" if target["found"] is None else f"{target['found']:.4g}"
    return f"| {target['name']} | {target['target']} | {found} | {'yes' if target['reached'] else 'no'} |"


def _ratios(record: dict[str, Any]) -> list[str]:
    """What a method's step costs, beside `uniform`: a line a method, a column a model, a number a number of tasks."""
    cells = record["raw"]
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    counts = " / ".join(str(cell["tasks"]) for cell in cells if cell["model"] == models[0])
    wanted: dict[str, list[str]] = {}
    for target in record["targets"]:
        name, _, where = target["name"].partition(": ")
        if where.endswith(models[0]):
            wanted.setdefault(name, []).append(target["target"].removeprefix("≤ "))
    lines = [
        f"| Step, times `uniform`'s, at {counts} tasks | Wanted | {' | '.join(models)} |",
        "|---|---|" + "---|" * len(models),
    ]
    for method in cells[0]["ratios"]:
        found = [
            " / ".join(f"{cell['ratios'][method]:.2f}" for cell in cells if cell["model"] == model) for model in models
        ]
        lines.append(f"| {method} | {' / '.join(wanted.get(method, []))} | {' | '.join(found)} |")
    return lines


def _chaos(record: dict[str, Any]) -> list[str]:
    """A line a seed: what was broken, and what became of it."""
    lines = [
        "| Seed | Faults | Trials lost | Counted twice | Other values than undisturbed | Left behind | Seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in record["raw"]:
        faults = ", ".join(f"{count} {kind}" for kind, count in one["faults"].items())
        left = sum(map(len, one["left"].values()))
        cells = [one["seed"], faults, one["lost"], one["doubled"], one["different"], left, f"{one['seconds']:.0f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    parameters, ends = record["parameters"], [end for one in record["raw"] for end in one["orphans_end_after_s"]]
    note = (
        f"{parameters['trials']} trials of {parameters['epochs']} epochs, {parameters['nodes']} nodes of one slot; "
        f"undisturbed they take {_seconds(record['undisturbed_s'])}. The trials' processes of a killed driver were "
        f"gone after {median(ends):.1f} s (median), {max(ends):.1f} s at most. Two cores, shared with others: the load "
        f"was {record['machine']['load_before']:.0f} at the start."
    )
    return [*lines, "", f"- {note}"]


def _circumstances(results: dict[str, Any]) -> list[str]:
    described = {
        "orchestration": _orchestration,
        "search": _search,
        "dense": _dense,
        "recurrent": _recurrent,
        "tracking": _tracking,
        "scale": _scale,
        "bound": _bound,
    }
    return [describe(results[part]) for part, describe in described.items() if part in results]


def _orchestration(record: dict[str, Any]) -> str:
    parameters = record["parameters"]
    ours, script, alone = (
        f"{1000 * record['medians'][name]['wall_s_per_trial_extended']:.0f} ms" for name in ("ours", "ray", "optuna")
    )
    return (
        f"orchestration: {parameters['trials']} trials of {parameters['epochs']} epochs that train next to nothing. "
        f"From start to exit, a trial takes {ours} with mtlsearch, {script} with the script, {alone} with Optuna alone "
        "in one process."
    )


def _search(record: dict[str, Any]) -> str:
    parameters, medians = record["parameters"], record["medians"]
    trials, score, ours, alone = (
        _seconds(medians[f"{name}_s"]) for name in ("ray_wall", "ray_to_target", "ours_to_target", "optuna_to_target")
    )
    return (
        f"search: {parameters['data']}, {parameters['epochs']} epochs, medians of {parameters['seeds']} seeds. The "
        f"script's {parameters['trials_of_the_ray_script']} trials take {trials}, and it has its best score after "
        f"{score}; mtlsearch has that score after {ours}, Optuna alone after {alone}."
    )


def _dense(record: dict[str, Any]) -> str:
    parameters, medians, versions = record["parameters"], record["medians"], record["versions"]
    others = record["raw"][0]["ratios_with_usual_adam"]
    usual = ", ".join(f"{medians[f'{name}, Adam()']:.2f} beside {name}" for name in others)
    return (
        f"dense: a training step, CPU time on one thread, {parameters['inputs']} inputs, medians of "
        f"{parameters['rounds']} rounds, {len(record['raw'])} shapes (4 to 16 experts, 2 to 12 tasks, 32 or 128 units, "
        f"128 or 1024 rows). torch-rechub {versions['torch-rechub']} has a BatchNorm behind every layer and no option "
        f"against it; without, it is the same function as ours. All have Adam(fused=True); with the others' usual "
        f"Adam() the medians are {usual}."
    )


def _recurrent(record: dict[str, Any]) -> str:
    steps, ratio = record["parameters"]["steps"], record["medians"]["ratio"]
    return (
        f"recurrent: LSTM experts, {steps} steps, median {ratio:.2f} times as fast as a loop over nn.LSTM with the "
        "same weights."
    )


def _tracking(record: dict[str, Any]) -> str:
    parameters, medians = record["parameters"], record["medians"]
    return (
        f"tracking: {parameters['data']}, trials of {parameters['epochs']} epochs that take {medians['trial_s']:.1f} s "
        f"of CPU time each; W&B's client and its process take {1000 * medians['logging_s']:.0f} ms of it (told to it "
        f"without training), and {medians['once_s']:.0f} s once a search: imports, pictures, the winner's export."
    )


def _scale(record: dict[str, Any]) -> str:
    parameters, machine, raw = record["parameters"], record["machine"], record["raw"]
    costs = "; ".join(
        f"{each['trials']:,} trials, {each['side_by_side']:,} side by side: {each['late']['cpu_ms_per_ask']:.1f} ms a "
        f"proposal, {each['late']['cpu_ms_per_report']:.2f} ms a report"
        for each in raw
        if (each["sampler"], each["pruner"]) == ("tpe", "none")
    )
    largest = max(raw, key=lambda each: each["reports"])
    random_first = parameters.get("random_first")
    drawn = f" The first {random_first:,} of the largest search were drawn at random." if random_first else ""
    return (
        "scale: CPU time of the driver with tpe and without a pruner, 10 reports a trial, in each search's later "
        f"part. {costs}. "
        f"{largest['trials']:,} trials leave a journal of {largest['journal_mb']:.0f} MB and "
        f"{largest['metrics_jsonl_mb']:.0f} MB of metrics.jsonl.{drawn} "
        f"Measured at a load of {machine['load_before']:.0f} on {machine['cores']} cores."
    )


def _bound(record: dict[str, Any]) -> str:
    parameters, medians = record["parameters"], record["medians"]
    return (
        f"bound: of a formula over the quickstart's space, {parameters['trials']:,} trials, "
        f"{parameters['side_by_side']} side by side, medians of {parameters['seeds']} seeds. The last 100 proposals "
        f"are {medians['all']:.2g} below the optimum where TPE looks at its whole history, {medians['bounded']:.2g} "
        f"where it looks at the latest {parameters['most_finished']} finished trials beside the best."
    )


def _seconds(value: float | None) -> str:
    return "no time (not reached)" if value is None else f"{value:.0f} s"


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))

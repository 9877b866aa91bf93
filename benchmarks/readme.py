"""Writes the benchmark's table into README.md, from benchmarks/results/search.json.

python benchmarks/readme.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmark -->\n", "<!-- /benchmark -->"


def table(results: dict[str, Any]) -> str:
    """The targets of every part with what was found, and what the numbers were measured with."""
    targets = [target for record in results.values() for target in record["targets"]]
    lines = ["| What | Wanted | Found | Reached |", "|---|---|---|---|", *map(_row, targets)]
    return "\n".join([*lines, "", *(f"- {line}" for line in _circumstances(results)), ""])


def updated(readme: str, results: dict[str, Any]) -> str:
    """README's text with the table of these results."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table(results)}{END}{after}"


def _row(target: dict[str, Any]) -> str:
    found = "not reached" if target["found"] is None else f"{target['found']:.3g}"
    return f"| {target['name']} | {target['target']} | {found} | {'yes' if target['reached'] else 'no'} |"


def _circumstances(results: dict[str, Any]) -> list[str]:
    described = {"orchestration": _orchestration, "search": _search}
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


def _seconds(value: float | None) -> str:
    return "no time (not reached)" if value is None else f"{value:.0f} s"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(), json.loads((HERE / "results" / "search.json").read_text())))

"""The text of a starter space file: what was guessed, written out where a person can correct it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlsearch.config.table import can_be_named
from mtlsearch.starter.leaks import Leak
from mtlsearch.starter.proposal import Proposal, Proposed

PLAIN = re.compile(r"[A-Za-z_][\w ./-]*[\w]|[A-Za-z]")
RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}
"""Words that other YAML readers take for something else than text."""

STEPS_AN_EPOCH = 30
BATCHES = (32, 64, 128, 256, 512, 1024)


def space_text(data: str, name: str, num_rows: int, proposal: Proposal, leaks: Sequence[Leak], command: str) -> str:
    """The whole file.

    Args:
        data: the table's path, as the user gave it.
        command: what runs it.
    """
    return "\n".join(
        [
            f"# {command}",
            "#",
            f"# Written by `mtlsearch init` for {data} ({num_rows:,} rows). Correct what was guessed, then",
            f"# `{command.replace(' run ', ' check ')}`.",
            f"name: {quoted(name)}",
            "data:",
            "  source: table",
            f"  path: {quoted(data)}",
            "  tasks:",
            *(f"    - {_task(task)}" for task in proposal.tasks),
            *(
                f"    # - {{column: {quoted(other)}, kind: …}}"
                for other in proposal.others[:5]
                if len(proposal.tasks) < 2
            ),
            *_rules(proposal, leaks),
            "space:",
            "  model:",
            "    choice:",
            "      - {kind: shared_bottom, hidden: {choice: [32, 64, 128]}, dropout: {choice: [0.0, 0.2]}}",
            "      - {kind: mmoe, hidden: {choice: [16, 32, 64]}, num_experts: {int: [2, 8], log: true}}",
            "      - kind: mmoeex",
            "        hidden: {choice: [16, 32, 64]}",
            "        num_experts: {int: [2, 8], log: true}",
            "        alpha: {float: [0.0, 0.75], step: 0.25}",
            "  optimizer: {lr: {float: [3.0e-4, 1.0e-2], log: true}, schedule: cosine}",
            f"  batch_size: {_batch_size(num_rows)}",
            "objective: {metric: delta}  # mean relative gain over single-task baselines, which are trained first",
            "search: {sampler: tpe, pruner: hyperband, seed: 7}",
            f"budget: {{trials: 20, epochs: {_epochs(num_rows)}, wall: 10m}}",
            "",
        ]
    )


def quoted(text: str) -> str:
    """As YAML in flow style."""
    plain = PLAIN.fullmatch(text) is not None and text.lower() not in RESERVED
    return text if plain else json.dumps(text, ensure_ascii=False)


def _task(task: Proposed) -> str:
    positive = "" if task.positive is None else f", positive: {_value(task.positive)}"
    other = task.column.replace("/", "_")
    name = "" if can_be_named(task.column) else f", name: {quoted('test_label' if other == 'test' else other)}"
    return f"{{column: {quoted(task.column)}, kind: {task.kind}{positive}{name}}}"


def _value(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def _rules(proposal: Proposal, leaks: Sequence[Leak]) -> Iterator[str]:
    if leaks:
        names = ", ".join(quoted(name) for name in dict.fromkeys(leak.column for leak in leaks))
        yield "  # Suspects, each of which predicts a label all alone. Are they known before the label is? If not:"
        yield f"  # drop: [{names}]"
    if proposal.split is not None:
        yield f"  split: {quoted(proposal.split)}             # says which rows train, validate, test"
        return
    if proposal.group is not None:
        yield f"  group: {quoted(proposal.group)}             # rows of one never straddle splits"
    yield "  split: {train: 0.7, validation: 0.15, test: 0.15, seed: 0}"


def _batch_size(num_rows: int) -> int:
    return next((size for size in reversed(BATCHES) if size * STEPS_AN_EPOCH <= 0.7 * num_rows), BATCHES[0])


def _epochs(num_rows: int) -> int:
    """Small tables need more of them for as many steps."""
    return 27 if num_rows < 10_000 else 9


def name_of(data: str) -> str:
    """An experiment's name from a table's."""
    return re.sub(r"[^\w-]+", "_", Path(data.rstrip("/*")).name.split(".")[0]).strip("_") or "table"

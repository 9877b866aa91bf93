"""A search whose result its seed decides, whenever its trials run; what it found; and what must be true of that."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import optuna

from mtlsearch.folder import ExperimentFolder
from mtlsearch.search import read_records, study_of

TRIALS, EPOCHS, TASKS = 40, 4, 2
NUM_EPOCHS = (TRIALS + TASKS) * EPOCHS
"""A baseline a task is trained before the trials."""

SPACE = """name: chaos
data: {{source: table, path: {table}, tasks: [{{column: y, kind: binary}}, {{column: z, kind: regression}}]}}
space:
  model:
    choice:
      - {{kind: shared_bottom, hidden: {{choice: [4, 8]}}}}
      - {{kind: mmoe, hidden: 4}}
  optimizer: {{lr: {{float: [1.0e-3, 1.0e-1], log: true}}}}
  batch_size: 8
search: {{sampler: random, pruner: none, seed: 3}}
budget: {{trials: {trials}, epochs: {epochs}}}
resources: {{max_retries: 100, timeout: {timeout}}}
"""
"""A trial fails when its process is lost more than max_retries times, by design: these are the monkey's doing."""


def write_space(folder: Path, timeout: float) -> Path:
    """The space file, beside its table of 600 rows.

    Args:
        timeout: seconds after which a process that says nothing is given up.
    """
    table, draw = folder / "table.csv", random.Random(0)
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "y", "z"])
        for _ in range(600):
            a, b = draw.gauss(0, 1), draw.gauss(0, 1)
            y, z = a + b + draw.gauss(0, 1) > 0, a - b + draw.gauss(0, 1)
            writer.writerow([a, b, draw.choice("uvw"), int(y), z])
    space = folder / "space.yaml"
    space.write_text(SPACE.format(table=table, trials=TRIALS, epochs=EPOCHS, timeout=timeout))
    return space


class Found(NamedTuple):
    """What is known of one trial at the end, but for what clocks say."""

    role: str
    state: str
    value: float | None
    params: dict[str, Any]
    intermediate: dict[int, float]
    outcome: str
    epochs: list[dict[str, Any]]
    """The lines of metrics.jsonl."""
    test: dict[str, float] | None


CLOCKED = ("seconds", "samples_per_second")


def found(folder: ExperimentFolder) -> dict[int, Found]:
    """Every trial of a search, by its number."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder.journal))
    storage = optuna.storages.JournalStorage(backend)
    (study,) = storage.get_all_studies()
    trials = {trial.number: trial for trial in storage.get_all_trials(study._study_id)}
    result = {}
    for record in read_records(study_of(folder)):
        trial, files = trials[record.number], folder.trial(record.number)
        lines = [json.loads(line) for line in files.metrics.read_text().splitlines()]
        result[record.number] = Found(
            role=record.role,
            state=trial.state.name,
            value=trial.value,
            params=trial.params,
            intermediate=trial.intermediate_values,
            outcome=trial.user_attrs.get("outcome", ""),
            epochs=[{key: value for key, value in line.items() if key not in CLOCKED} for line in lines],
            test=json.loads(files.test.read_text()) if files.test.exists() else None,
        )
    return result


class Tally(NamedTuple):
    """Of the trials that should be there."""

    lost: int
    """Trials that are not there, or did not complete."""
    doubled: int
    """Trials, or epochs of one, that are there once too often."""
    different: int
    """Trials of which anything but the time that they took is another than in the undisturbed search."""


def tally(disturbed: dict[int, Found], undisturbed: dict[int, Found]) -> Tally:
    """How far a search is from the undisturbed one; (0, 0, 0) when nothing but time tells them apart."""
    complete = {number for number, each in disturbed.items() if each.state == "COMPLETE"}
    epochs = {number: [line["epoch"] for line in each.epochs] for number, each in disturbed.items()}
    return Tally(
        lost=len(undisturbed.keys() - complete),
        doubled=len(disturbed.keys() - undisturbed.keys())
        + sum(len(set(each)) < len(each) for each in epochs.values()),
        different=sum(disturbed.get(number) != each for number, each in undisturbed.items()),
    )

"""Finished searches over small data of every form, made once, and their exported winners."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from rich.console import Console

from mtlsearch.export.trial import export_trial
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.drive import Driver
from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.space import read_experiment

SPACE = (
    "{model: {choice: [{kind: shared_bottom, hidden: 8}, {kind: mmoeex, hidden: 4, num_experts: 4}]}, batch_size: 64}"
)


@dataclass(frozen=True)
class Searched:
    """A search that has ended, and its winner."""

    folder: Path
    model: Path
    winner: int

    def trial(self, name: str) -> Any:
        """A JSON file of the winner."""
        return json.loads((self.folder / "trials" / f"{self.winner:05d}" / name).read_text())


Search = Callable[..., Searched]


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    """`search(data=…, space=…)` runs a search of two trials and exports its best."""

    def run(name: str, data: str, space: str = SPACE) -> Searched:
        home = tmp_path_factory.mktemp(name)
        file = home / "space.yaml"
        sections = {
            "name": name,
            "data": data,
            "space": space,
            "search": "{sampler: random, pruner: none, seed: 3}",
            "budget": "{trials: 2, epochs: 2}",
        }
        file.write_text("".join(f"{key}: {value}\n" for key, value in sections.items()))
        Driver(Console(file=io.StringIO()), "local").run(make_plan(read_experiment(file)), home / "out")
        exported = export_trial(ExperimentFolder.open(home / "out"), None, home / "model")
        return Searched(home / "out", home / "model", exported.trial)

    return run


@pytest.fixture(scope="session")
def flights(search: Search, small_flights: Path) -> Searched:
    """Of the built-in flights."""
    return search("small", f"{{source: flights, path: {small_flights}}}")


def people(num_rows: int = 400, seed: int = 0) -> pa.Table:
    """Numbers, a flag, a date and texts, with gaps; four tasks, one of each kind, and the split's name."""
    draw = np.random.default_rng(seed)
    age, income = draw.uniform(18, 90, num_rows), draw.lognormal(3, 1, num_rows)
    score = age / 30 + draw.normal(0, 0.5, num_rows)
    gaps = draw.random(num_rows) < 0.1
    return pa.table(
        {
            "id": [f"p{i}" for i in range(num_rows)],
            "age": pa.array(age, mask=gaps),
            "income": income,
            "member": pa.array(draw.random(num_rows) < 0.3),
            "since": pa.array(draw.integers(0, 20_000, num_rows).astype("i4"), pa.int32()).cast(pa.date32()),
            "town": pa.array(draw.choice(["Ulm", "Bonn", "Jena"], num_rows), mask=gaps[::-1]),
            "ill": (score > 2).astype("i8"),
            "stage": draw.choice(["low", "mid", "high"], num_rows),
            "cough": (income > 20).astype("i8"),
            "fever": (age > 50).astype("i8"),
            "born": 1.7e9 + age * 1e3,
            "part": [("train", "train", "train", "validation", "test")[i % 5] for i in range(num_rows)],
        }
    )


@pytest.fixture(scope="session")
def people_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as Parquet."""
    path = tmp_path_factory.mktemp("people") / "people.parquet"
    parquet.write_table(people(), path)
    return path


@pytest.fixture(scope="session")
def table(search: Search, people_file: Path) -> Searched:
    """Of a user's own table."""
    tasks = (
        "[{column: ill, kind: binary}, {column: stage, kind: multiclass}, "
        "{columns: [cough, fever], name: signs, kind: multilabel}, {column: born, kind: regression}]"
    )
    return search("people", f"{{source: table, path: {people_file}, tasks: {tasks}, split: part, drop: [id]}}")


@pytest.fixture
def refused(mtlsearch, tmp_path):
    """`refused("predict", …)` → the one message; exit code 2, and nothing was written."""

    def call(*arguments: object) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        ended = mtlsearch(*arguments)
        assert ended.code == 2, ended
        assert (ended.out, ended.err.count("\n")) == ("", 1)
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return ended.err.removeprefix("mtlsearch: ").replace(f"{tmp_path}/", "").rstrip("\n")

    return call

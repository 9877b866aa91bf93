"""Whatever is done to a space file, it reads or is refused with one message; nothing else is ever raised."""

from __future__ import annotations

import copy
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlsearch.errors import ConfigError
from mtlsearch.space import Experiment, Random, flatten, read_experiment

TEXT = """\
name: mutated
data: {source: flights, tasks: [cancelled, arr_delay]}
space:
  model:
    choice:
      - kind: shared_bottom
        hidden: {choice: [64, 128, 256]}
      - kind: mmoe
        num_experts: {int: [2, 16], log: true}
      - kind: mmoeex
        num_experts: {int: [2, 16], step: 2}
        alpha: {float: [0.0, 1.0], step: 0.125}
        expert: {choice: [{kind: dense, num_layers: {int: [1, 2]}}]}
  balancing: {choice: [uniform, {kind: maml_mtl, inner_lr: {float: [1.0e-4, 1.0e-1], log: true}}]}
  optimizer: {lr: {float: [1.0e-4, 1.0e-2], log: true}, clip_norm: {choice: [null, 1.0]}}
  batch_size: 512
  amp: {choice: ['off', bf16]}
constraints: [alpha * num_experts < num_experts, num_experts <= 8 or optimizer.lr < 1e-3]
objective: {metric: delta}
search: {sampler: tpe, pruner: {kind: hyperband}, seed: 7, enqueue: [{model: mmoe, optimizer: {lr: 0.001}}]}
budget: {trials: 40, epochs: 8, wall: 10m}
resources: {workers_per_trial: 1}
tracking: {wandb: {project: mtlsearch}}
"""
DOCUMENT = yaml.safe_load(TEXT)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["mmoe", "mmoeex", "mmoe#2", "dense", "uniform", "adamw", "off", "alpha < 1", "1e-3", "kind", "a.b"]
    )
)
KEYS = st.sampled_from(["int", "float", "choice", "kind", "log", "step", "source", "model", "lr", "alpha"]) | st.text(
    max_size=5
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
OPERANDS = ["alpha", "num_experts", "model.kind", "'mmoe'", "amp", "null", "1", "0", "2.5", "1e999", "__class__"]
OPERATORS = ["<", "==", "+", "-", "*", "**", "/", "%", "(", ")", "and", "or", "not", "min(", ",", "[", "lambda:", "."]
PROFILE = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def places(value: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node below the root."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield (*keys, key)
        yield from places(child, (*keys, key))


def holder(document: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys[:-1]:
        document = document[key]
    return document


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The document with one to three nodes deleted, replaced, renamed, copied or moved."""
    document = copy.deepcopy(DOCUMENT)
    for _ in range(draw(st.integers(1, 3))):
        keys = draw(st.sampled_from(list(places(document)) or [()]))
        if not keys:
            break
        around, key = holder(document, keys), keys[-1]
        match draw(st.sampled_from(["delete", "replace", "swap", "rename", "wrap"])):
            case "delete":
                del around[key]
            case "replace":
                around[key] = draw(VALUES)
            case "swap":
                other = draw(st.sampled_from(list(places(document))))
                around[key] = copy.deepcopy(holder(document, other)[other[-1]])
            case "rename" if isinstance(around, dict):
                around[draw(KEYS)] = around.pop(key)
            case "rename":
                around.insert(key, copy.deepcopy(around[key]))
            case "wrap":
                around[key] = draw(st.sampled_from([[around[key]], {"choice": [around[key]]}, {"kind": around[key]}]))
    return document


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        before = Path.cwd()
        os.chdir(name)
        yield Path(name)
        os.chdir(before)


def read_or_refuse(data: bytes, *overrides: str) -> Experiment | None:
    """The experiment, which then must work, or None when it was refused with a message that names the place."""
    path = Path("space.yaml")
    path.write_bytes(data)
    try:
        experiment = read_experiment(path, overrides)
    except ConfigError as error:
        refused = error
    else:
        use(experiment)
        return experiment
    assert refused.where is not None
    assert str(refused).startswith(("space.yaml", "--set "))
    assert len(str(refused)) < 20_000
    return None


def use(experiment: Experiment) -> None:
    """What is read can be drawn from, assigned to and looked at."""
    space = experiment.space
    config = space.suggest(Random(random.Random(0)))
    space.violated(config)
    assert set(flatten(config))
    assert all(domain.size is None or domain.size > 1 for domain in space.dimensions.values())
    for fixed in experiment.search.enqueue:
        space.assign(fixed)


def test_the_unmutated_file_reads(folder):
    assert read_or_refuse(TEXT.encode()) is not None


@settings(PROFILE, max_examples=400)
@given(document=mutated())
@pytest.mark.slow
def test_mutated_documents(folder, document):
    read_or_refuse(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(PROFILE, max_examples=200)
@given(value=VALUES)
def test_documents_of_anything(folder, value):
    read_or_refuse(yaml.safe_dump(value).encode("utf-8", "surrogatepass"))


@settings(PROFILE, max_examples=300)
@given(
    start=st.integers(0, len(TEXT)),
    length=st.integers(0, 30),
    new=st.binary(max_size=12) | st.text(max_size=12).map(lambda t: t.encode("utf-8", "replace")),
)
def test_mutated_bytes(folder, start, length, new):
    data = TEXT.encode()
    read_or_refuse(data[:start] + new + data[start + length :])


@settings(PROFILE, max_examples=200)
@given(lines=st.lists(st.sampled_from(TEXT.splitlines()), min_size=1, max_size=30))
def test_shuffled_and_repeated_lines(folder, lines):
    read_or_refuse("\n".join(lines).encode())


@settings(PROFILE, max_examples=200)
@given(text=st.lists(st.sampled_from(OPERANDS + OPERATORS), max_size=9).map(" ".join) | st.text(max_size=20))
def test_constraints_of_anything(folder, text):
    document = {**DOCUMENT, "constraints": [text]}
    read_or_refuse(yaml.safe_dump(document).encode("utf-8", "surrogatepass"))


@settings(PROFILE, max_examples=200)
@given(
    keys=st.sampled_from([".".join(map(str, keys)) for keys in places(DOCUMENT)]) | st.text(max_size=8),
    value=VALUES.map(lambda v: yaml.safe_dump(v, default_flow_style=True).strip()) | st.text(max_size=8),
)
def test_overrides_of_anything(folder, keys, value):
    read_or_refuse(TEXT.encode(), f"{keys}={value}")

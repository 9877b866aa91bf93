"""The JSON schema: editors and the reader agree on what a space file may hold."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from mtlsearch.errors import Where
from mtlsearch.space import json_schema, read_experiment
from mtlsearch.space.document import parse

SEARCH_SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))


@pytest.fixture(scope="module")
def valid():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return lambda text: validator.is_valid(parse(text, Where(Path("space.yaml"))).value)


def file(space: str, rest: str = "") -> str:
    return f"data: {{source: flights}}\nspace: {space}\n{rest}\n"


def test_it_is_a_draft_2020_12_schema_that_survives_json():
    schema = json_schema()

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["required"]) == {"data", "space"}


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.name)
def test_every_search_space_reads_and_validates(path, valid):
    read_experiment(path)

    assert valid(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        file("{model: mmoe}"),
        file("{model: {kind: mmoe, num_experts: 4, expert: dense}}"),
        file("{model: {choice: [mmoe, {kind: mmoeex, alpha: {float: [0, 1], step: 0.125}}]}}"),
        file("{model: {kind: mmoe, expert: {choice: [dense]}, hidden: {int: [8, 64], log: true}}}"),
        file("{model: mmoe, optimizer: {lr: {float: [1e-4, 1e-2], log: true}}}"),
        file("{model: mmoe, optimizer: {choice: [sgd, {lr: 0.1}]}, amp: {choice: [off, bf16]}}"),
        file("{model: mmoe, balancing: {kind: maml_mtl, inner_fraction: {choice: [full, 0.5]}, order: {int: [1, 2]}}}"),
        file("{model: mmoe, optimizer: {clip_norm: {choice: [null, 1]}}}"),
        file("{model: mmoe}", "search: {sampler: random, pruner: {kind: patient, wrapped: median}}"),
        file("{model: mmoe}", "search: {enqueue: [{model: mmoe}]}\nobjective: mean\nbudget: {wall: 10m, trials: 3}"),
        file("{model: mmoe}", "resources: {workers_per_trial: 2, gpus_per_worker: 0.25}"),
        file("{model: mmoe}", "resources: {workers_per_trial: [1, 4]}"),
        file("{model: mmoe}", "resources: {workers_per_trial: {int: [1, 4]}}"),
        file("{model: mmoe}", "constraints: ['num_experts < 9']\nname: x\ntracking: {wandb: {project: p}}"),
    ],
)
def test_what_reads_validates(text, valid, read):
    read(text)

    assert valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "data: {source: flights}",
        "space: {model: mmoe}",
        file("{}"),
        file("{model: mmo}"),
        file("{model: {num_experts: 4}}"),
        file("{model: {choice: []}}"),
        file("{model: {choice: [mmoe, mmoe]}}"),
        file("{model: {kind: mmoe, alpha: 0.5}}"),
        file("{model: {kind: mmoe, num_experts: 0}}"),
        file("{model: {kind: mmoe, num_experts: '4'}}"),
        file("{model: {kind: mmoe, num_experts: {int: [2]}}}"),
        file("{model: {kind: mmoe, num_experts: {int: [2, 4], stp: 1}}}"),
        file("{model: {kind: mmoe, num_experts: {choice: [2, x]}}}"),
        file("{model: {kind: mmoe, expert: gruu}}"),
        file("{model: mmoe, balancing: {inner_lr: 0.1}}"),
        file("{model: mmoe, amp: {int: [0, 1]}}"),
        file("{model: mmoe, bach_size: 3}"),
        file("{model: mmoe}", "serch: {}"),
        file("{model: mmoe}", "search: {seed: x}"),
        file("{model: mmoe}", "search: {pruner: {kind: hyperbnd}}"),
        file("{model: mmoe}", "budget: {epochs: 0}"),
        file("{model: mmoe}", "constraints: alpha < 1"),
    ],
)
def test_what_an_editor_underlines_is_refused(text, valid, message_of):
    assert not valid(text)
    assert message_of(text).startswith("space.yaml")

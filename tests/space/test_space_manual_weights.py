"""Weights by hand: one field a task, whose names a space file makes up and the data knows."""

from __future__ import annotations

import random
from pathlib import Path

import jsonschema
import pytest

from mtlsearch.config import (
    CensusConfig,
    FlightsConfig,
    ManualConfig,
    Mimic3Config,
    Physionet2012Config,
    SyntheticMMoEConfig,
    Task,
    TaskWeights,
    TrialConfig,
)
from mtlsearch.config.data import task_names
from mtlsearch.data.sources import source_of, tasks_of
from mtlsearch.errors import ConfigError, Where
from mtlsearch.space import Random, Replay, json_schema
from mtlsearch.space.document import parse
from mtlsearch.space.domain import CategoryDomain, FloatDomain
from mtlsearch.space.flatten import flatten
from mtlsearch.space.task_weights import check_task_weights

MODEL = "model: {kind: mmoe}\noptimizer: {}\n"
SEARCHED = "balancing: {kind: manual, weights: {delayed: 2, cancelled: {float: [0.01, 100.0], log: true}}}"


def file(balancing: str) -> str:
    return f"data: {{source: flights}}\nspace:\n  model: mmoe\n  balancing: {balancing}\n"


def test_each_task_is_a_parameter_or_fixed(space_of) -> None:
    space = space_of(MODEL + SEARCHED)
    assert space.dimensions == {"balancing.weights.cancelled": FloatDomain(0.01, 100.0, log=True)}
    config = space.suggest(Replay({"balancing.weights.cancelled": 0.5}))
    assert config.balancing == ManualConfig(weights=TaskWeights(delayed=2, cancelled=0.5))


def test_a_configuration_survives_json_and_flattens(space_of) -> None:
    config = space_of(MODEL + SEARCHED).suggest(Replay({"balancing.weights.cancelled": 0.5}))
    again = TrialConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert hash(again) == hash(config)
    row = {name: value for name, value in flatten(config).items() if name.startswith("balancing")}
    assert row == {
        "balancing.kind": "manual",
        "balancing.weights.delayed": 2.0,
        "balancing.weights.cancelled": 0.5,
    }
    assert flatten(again) == flatten(config)


def test_in_a_choice_the_label_is_on_the_way(space_of) -> None:
    space = space_of(MODEL + "balancing: {choice: [uniform, {kind: manual, weights: {a: {choice: [0.5, 2]}}}]}")
    assert space.dimensions == {
        "balancing": CategoryDomain(("uniform", "manual")),
        "balancing.manual.weights.a": CategoryDomain((0.5, 2.0)),
    }
    drawn = {space.suggest(Random(random.Random(seed))).balancing.model_dump_json() for seed in range(20)}
    assert len(drawn) == 3
    assert space.grid_size() == 3


RANGE = FloatDomain(0.01, 100.0, log=True)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("{source: flights}", ["cancelled", "dep_late15", "arr_delay", "air_time"]),
        ("{source: flights, tasks: [arr_delay, cancelled]}", ["arr_delay", "cancelled"]),
        ("{source: census, path: a}", ["income", "marital"]),
        (
            "{source: table, path: a, tasks: [{column: died, kind: binary}, {column: b, name: los, kind: regression}]}",
            ["died", "los"],
        ),
        ("{source: pcba, path: a, tasks: [PCBA-1030, PCBA-1379]}", ["PCBA-1030", "PCBA-1379"]),
    ],
)
def test_named_alone_it_has_a_range_for_each_task_of_the_data(data, names, read) -> None:
    space = read(f"data: {data}\nspace: {{model: {{kind: mmoe}}, optimizer: {{}}, balancing: manual}}\n").space
    assert space.dimensions == {f"balancing.weights.{name}": RANGE for name in names}
    weights = space.suggest(Random(random.Random(0))).balancing.weights
    assert weights.names == set(names)
    assert len({weights.of(name) for name in names}) == len(names)


def test_in_a_choice_it_may_be_named_too(read) -> None:
    enqueued = "{balancing: {kind: manual, weights: {cancelled: 1}}}"
    rest = f"constraints: [weights.cancelled < 2]\nsearch: {{enqueue: [{enqueued}]}}"
    data = "data: {source: flights, tasks: [cancelled, arr_delay]}"
    space = "space: {model: {kind: mmoe}, optimizer: {}, balancing: {choice: [uniform, manual]}}"
    assert read(f"{data}\n{space}\n{rest}\n").space.dimensions == {
        "balancing": CategoryDomain(("uniform", "manual")),
        "balancing.manual.weights.cancelled": RANGE,
        "balancing.manual.weights.arr_delay": RANGE,
    }


def test_of_128_tasks_the_few_are_asked_for(message_of) -> None:
    told = message_of("data: {source: pcba, path: a}\nspace:\n  model: mmoe\n  balancing: manual\n")
    assert told.startswith("space.yaml:4:14: `weights` are missing here: choose few tasks in `data.tasks`, or give")


def test_what_is_wrong_with_the_data_is_told_once(message_of) -> None:
    told = message_of("data: {source: flihgts}\nspace:\n  model: mmoe\n  balancing: manual\n")
    assert "Did you mean `flights`?" in told
    assert "weights" not in told


@pytest.mark.parametrize(
    "data",
    [
        FlightsConfig(),
        CensusConfig(path="a"),
        SyntheticMMoEConfig(),
        Mimic3Config(path="a"),
        Physionet2012Config(path="a"),
    ],
    ids=lambda data: data.source,
)
def test_the_tasks_are_those_that_the_source_has(data) -> None:
    assert data.every_task == tuple(task.name for task in source_of(data).tasks)
    assert task_names(data) == tuple(task.name for task in tasks_of(data))


def test_a_task_may_bear_any_name(space_of) -> None:
    space = space_of(MODEL + "balancing: {kind: manual, weights: {of: 1, copy: {choice: [1, 3]}, kind: 2, names: 5}}")
    config = space.suggest(Replay({"balancing.weights.copy": 3.0}))
    assert [config.balancing.weights.of(name) for name in ("of", "copy", "kind", "names", "other")] == [1, 3, 2, 5, 1]
    assert space.assign({"balancing": {"weights": {"kind": 2, "copy": 1}}}) == {"balancing.weights.copy": 1.0}
    assert flatten(config)["balancing.weights.kind"] == 2


def test_constraints_and_enqueued_trials_may_name_them(read) -> None:
    rest = "constraints: ['weights.a < 1']\nsearch: {enqueue: [{balancing: {weights: {a: 0.5}}}]}\n"
    experiment = read(file("{kind: manual, weights: {a: {float: [0.1, 10.0]}, b: 2}}") + rest)
    low, high = (experiment.space.suggest(Random(random.Random(0), {"balancing.weights.a": a})) for a in (0.5, 5.0))
    assert experiment.space.violated(low) is None
    assert experiment.space.violated(high) is not None


@pytest.mark.parametrize(
    ("balancing", "message"),
    [
        ("{kind: manual}", "space.yaml:4:14: `weights` is missing here; give such as {income: 2.0, married: {float:"),
        ("{kind: manual, weights: {}}", "space.yaml:4:38: `weights` must map tasks to weights"),
        ("{kind: manual, weights: 2}", "space.yaml:4:38: `weights` must map tasks to weights"),
        ("{kind: manual, weights: {a: 0}}", "space.yaml:4:42: `weights.a` must be greater than 0.0, found 0. Write a"),
        ("{kind: manual, weights: {a: -1, b: 2}}", "space.yaml:4:42: `weights.a` must be greater than 0.0, found -1."),
        ("{kind: manual, weights: {a: '2'}}", "space.yaml:4:42: `weights.a` must be a number"),
        ("{kind: manual, weights: {a: [1, 2]}}", "`weights.a` must be a number, found [1, 2]. To search over values,"),
        ("{kind: manual, weights: {a: {float: [0, 2]}}}", "`weights.a` must be greater than 0"),
        ("{kind: manual, weights: {a: {choice: [1, -2]}}}", "`weights.a` must be greater than 0.0, found -2"),
        ("{kind: manual, weights: {a: {choice: [1, 1]}}}", "1 is listed twice in the choice for `weights.a`"),
        ("{choice: [uniform, {kind: manual, weights: {a: -1}}]}", "4:61: `weights.a` must be greater than 0.0"),
        ("{kind: manual, weights: {a: {flot: [1, 2]}}}", "Did you mean `float`?"),
    ],
)
def test_what_is_no_weight_is_refused_with_the_task_that_it_is_of(balancing, message, message_of) -> None:
    assert message in message_of(file(balancing))


@pytest.mark.parametrize("balancing", ["manual", "{choice: [uniform, manual]}"])
def test_an_editor_lets_it_be_named_alone(balancing) -> None:
    assert editor().is_valid(parse(file(balancing), Where(Path("space.yaml"))).value)
    assert not editor().is_valid(parse(file("{kind: manual}"), Where(Path("space.yaml"))).value)


@pytest.mark.parametrize("weights", ["{}", "2", "{a: 0}", "{a: '2'}", "{a: {flot: [1, 2]}}", "[a]"])
def test_an_editor_underlines_it(weights) -> None:
    text = file(f"{{kind: manual, weights: {weights}}}")
    assert not editor().is_valid(parse(text, Where(Path("space.yaml"))).value)


def editor() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize(
    "weights", ["{a: 2}", "{a: 0.5, b: {float: [0.01, 100.0], log: true}}", "{kind: {choice: [1, 2]}}"]
)
def test_an_editor_agrees(weights, read) -> None:
    text = file(f"{{kind: manual, weights: {weights}}}")
    read(text)
    assert editor().is_valid(parse(text, Where(Path("space.yaml"))).value)


TASKS = [Task(name="delayed", kind="binary"), Task(name="cancelled", kind="binary")]


@pytest.mark.parametrize(
    ("balancing", "place"),
    [
        ("{kind: manual, weights: {delayed: 1, canceled: 2}}", "4:51"),
        ("{choice: [uniform, {kind: manual, weights: {canceled: {choice: [1, 2]}}}]}", "4:58"),
    ],
)
def test_a_task_that_the_data_has_not_is_refused_with_the_nearest(balancing, place, read) -> None:
    with pytest.raises(ConfigError) as refused:
        check_task_weights(read(file(balancing)), TASKS)
    assert str(refused.value) == (
        f"space.yaml:{place}: unknown task in `weights`: 'canceled'; allowed: delayed, cancelled. "
        "Did you mean `cancelled`?"
    )


@pytest.mark.parametrize(
    "balancing",
    ["uniform", "{kind: manual, weights: {cancelled: 1}}", "{choice: [pcgrad, {kind: manual, weights: {delayed: 3}}]}"],
)
def test_tasks_that_the_data_has_pass(balancing, read) -> None:
    check_task_weights(read(file(balancing)), TASKS)


def test_a_space_without_balancing_passes(read) -> None:
    check_task_weights(read("data: {source: flights}\nspace: {model: mmoe}\n"), TASKS)


def test_an_override_is_checked_too(read) -> None:
    experiment = read(file("{kind: manual, weights: {delayed: 1}}"), "space.balancing.weights.cancelledd=2")
    with pytest.raises(ConfigError, match="cancelledd"):
        check_task_weights(experiment, TASKS)

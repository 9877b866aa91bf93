"""What a plan refuses before anything is written."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlsearch.config import ResourcesConfig, Task
from mtlsearch.data import open_store
from mtlsearch.errors import ConfigError
from mtlsearch.orchestrate.machines import start_ray
from mtlsearch.orchestrate.plan import check_machine, make_plan
from mtlsearch.space import read_experiment

WriteSpace = Callable[..., Path]
EXCLUSIVE = "{model: {kind: mmoeex, num_experts: {int: [1, 3]}, alpha: 1.0}}"


def test_a_fixed_model_that_cannot_serve_the_tasks(space_file: WriteSpace) -> None:
    with pytest.raises(ConfigError, match=r"small\.yaml:3.* all 3 experts exclusive and there are 4 tasks") as caught:
        make_plan(read_experiment(space_file(space=EXCLUSIVE.replace("{int: [1, 3]}", "3"))))
    assert "Lower alpha" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{kind: mmoe, expert: gru}", "expert kind gru reads sequences, but this data has none, only rows"),
        ("{kind: mmoe, expert: {choice: [lstm, tcn]}}", "reads sequences, but this data has none, only rows"),
        ("mcw_lstm", "mcw_lstm reads sequences, but this data has none, only rows"),
        (
            "{kind: jmt, order: [cancelled, air_time]}",
            "order must name every task once, but 'dep_late15' is missing",
        ),
        ("{kind: sluice, hidden: 9, num_subspaces: 2}", "num_subspaces must divide hidden, but 2 does not divide 9"),
    ],
)
def test_a_model_that_can_never_run_is_an_error_also_in_a_choice(space_file: WriteSpace, model, message) -> None:
    for text, column in ((model, ":3"), (f"{{choice: [single_task, {model}]}}", ":3:")):
        with pytest.raises(ConfigError, match=message) as caught:
            make_plan(read_experiment(space_file(space=f"{{model: {text}}}")))
        assert f"small.yaml{column}" in str(caught.value)


def test_an_expert_that_cannot_read_the_data_is_never_proposed_and_that_is_said(space_file: WriteSpace) -> None:
    space = "{model: {kind: mmoe, expert: {choice: [gru, dense, lstm]}}}"
    plan = make_plan(read_experiment(space_file(space=space)))
    assert {config.model.expert.kind for config in plan.first(4)} == {"dense"}
    assert plan.never_proposed == ("gru", "lstm")


def test_a_domain_is_looked_for_among_the_columns_once_the_data_is_read(space_file: WriteSpace) -> None:
    space = "{model: {choice: [mmoe, {kind: man_moe, domain: carier}]}}"
    plan = make_plan(read_experiment(space_file(space=space)))
    schema = open_store(plan.experiment.data).schema
    with pytest.raises(ConfigError, match=r"there is no 'carier'; there are: .*carrier.*Write one of these"):
        plan.over(schema)
    right = make_plan(read_experiment(space_file(space=space.replace("carier", "carrier")))).over(schema)
    assert right.served.categories is not None
    assert "carrier" in right.served.categories


def test_a_task_without_any_class_is_an_error_once_the_data_is_read(space_file: WriteSpace) -> None:
    """A space file does not know of classes, so only the data can show that there is nothing to predict."""
    plan = make_plan(read_experiment(space_file()))
    schema = open_store(plan.experiment.data).schema
    empty = (Task(name="terminal", kind="multiclass"), Task(name="signs", kind="multilabel"))
    with pytest.raises(ConfigError, match=r"small\.yaml:3.* but 'terminal', 'signs' has none.*`data.tasks`"):
        plan.over(schema.model_copy(update={"tasks": (*schema.tasks, *empty)}))
    assert plan.over(schema).served.tasks == schema.tasks


def test_an_objective_that_the_validation_labels_leave_undefined_is_an_error_once_the_data_is_read(
    space_file: WriteSpace,
) -> None:
    """Nothing is trained for it. In the test split, or for an objective without the task, that is worth a note only."""
    for metric, split, refused in (
        ("mean", "validation", True),
        ("delta", "validation", True),
        ("air_time/rmse", "validation", False),
        ("mean", "test", False),
    ):
        plan = make_plan(read_experiment(space_file(objective=f"{{metric: {metric}}}")))
        schema = open_store(plan.experiment.data).schema
        alike = ("only 0", *(None for _ in schema.tasks[1:]))
        splits = [each.model_copy(update={"alike": alike}) if each.name == split else each for each in schema.splits]
        schema = schema.model_copy(update={"splits": tuple(splits)})
        if not refused:
            assert plan.over(schema).served.tasks == schema.tasks
            continue
        name = schema.tasks[0].name
        with pytest.raises(
            ConfigError, match=rf"small\.yaml:\d.* {metric} needs auroc of task '{name}' .*: only 0\. Spl"
        ):
            plan.over(schema)


def test_a_branch_that_constraints_rule_out_is_no_error_and_never_proposed(space_file: WriteSpace) -> None:
    space = "{model: {choice: [{kind: shared_bottom, hidden: 4}, {kind: mmoe, hidden: {choice: [4, 8]}}]}}"
    for constraint, kinds in (("model.kind != 'mmoe'", {"shared_bottom"}), ("hidden > 6", {"mmoe"})):
        plan = make_plan(read_experiment(space_file(space=space, constraints=f'["{constraint}"]')))
        assert {config.model.kind for config in plan.first(4)} == kinds
        assert {config.model.kind for config in plan.extremes()} == kinds


def test_a_branch_that_cannot_run_is_an_error_also_where_constraints_rule_it_out(space_file: WriteSpace) -> None:
    """It is a mistake whatever the constraints say."""
    space = "{model: {choice: [{kind: shared_bottom, hidden: 4}, {kind: sluice, hidden: 9, num_subspaces: 2}]}}"
    with pytest.raises(ConfigError, match="num_subspaces must divide hidden"):
        make_plan(read_experiment(space_file(space=space, constraints='["hidden < 6"]')))


def test_constraints_that_nothing_satisfies(space_file: WriteSpace) -> None:
    with pytest.raises(ConfigError, match=r"the constraint `lr > 0.5` is violated"):
        make_plan(read_experiment(space_file(constraints='["lr > 0.5"]')))


def test_an_enqueued_configuration_that_the_constraints_forbid_is_named(space_file: WriteSpace) -> None:
    search = "{enqueue: [{model: {kind: mmoe}}, {optimizer: {lr: 0.1}}]}"
    with pytest.raises(ConfigError, match=r"the constraint `lr < 0.05` is violated") as caught:
        make_plan(read_experiment(space_file(search=search, constraints='["lr < 0.05"]')))
    assert caught.value.where is not None
    assert caught.value.where.line == 4


def test_a_grid_over_a_range_without_step(space_file: WriteSpace) -> None:
    with pytest.raises(ConfigError, match=r"a grid must be countable, but `optimizer.lr` is"):
        make_plan(read_experiment(space_file(search="{sampler: grid}")))


def test_a_grid_too_large_to_list(space_file: WriteSpace) -> None:
    space = "{model: {kind: mmoe, hidden: {int: [1, 4096]}, num_experts: {int: [1, 256]}}, optimizer: adam}"
    with pytest.raises(ConfigError, match="a grid may have 100,000 points, but this one has 1,048,576"):
        make_plan(read_experiment(space_file(space=space.replace("adam", "{lr: 0.1}"), search="{sampler: grid}")))


def test_a_plan_can_be_read_again_anywhere(
    space_file: WriteSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path starts where the command was given, a nameless experiment keeps its file's name."""
    (tmp_path / "there").mkdir()
    path = space_file("nameless.yaml", name=None, data="{source: flights, path: there}")
    monkeypatch.chdir(tmp_path)
    plan = make_plan(read_experiment(path))
    monkeypatch.chdir("/")
    copy = tmp_path / "space.yaml"
    copy.write_text(plan.experiment.text)
    again = read_experiment(copy, plan.to_json()["overrides"])
    assert again.data.path == str(tmp_path / "there")
    assert again.name == "nameless"


def test_the_first_configurations_do_not_depend_on_when_they_are_asked(space_file: WriteSpace) -> None:
    plan = make_plan(read_experiment(space_file()))
    assert plan.first(5) == plan.first(5)
    assert len(plan.first(5)) == 4  # the budget is four trials


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers there"):
            start_ray(address)


def test_plan_json_names_versions_and_seed(space_file: WriteSpace) -> None:
    described = make_plan(read_experiment(space_file())).to_json()
    assert (described["seed"], described["objective"], described["final"]) == (3, "delta", None)
    assert {"python", "torch", "ray", "optuna"} <= set(described["versions"])


def test_a_range_of_workers_needs_room_for_the_least(space_file: WriteSpace) -> None:
    check_machine(read_experiment(space_file(resources="{workers_per_trial: [1, 9999]}")))
    with pytest.raises(ConfigError, match=r"one trial needs 9998 CPUs \(9998 workers of 1\), but this machine has"):
        check_machine(read_experiment(space_file(resources="{workers_per_trial: [9998, 9999]}")))


@pytest.mark.parametrize(("written", "least", "most"), [("3", 3, 3), ("[1, 4]", 1, 4), ("{int: [2, 4]}", 2, 4)])
def test_workers_are_a_number_or_a_range(space_file: WriteSpace, written: str, least: int, most: int) -> None:
    resources = read_experiment(space_file(resources=f"{{workers_per_trial: {written}}}")).resources
    assert (resources.least_workers, resources.most_workers) == (least, most)
    assert ResourcesConfig.model_validate_json(resources.model_dump_json()) == resources

"""Grid, size, extremes and assignment of a space."""

from __future__ import annotations

from itertools import islice

import pytest

from mtlsearch.errors import ConfigError

CONDITIONAL = """
model:
  choice:
    - {kind: shared_bottom, hidden: {choice: [64, 128, 256]}}
    - {kind: mmoeex, num_experts: {int: [2, 8], step: 3}, alpha: {float: [0, 0.3], step: 0.1}}
balancing: {choice: [uniform, {kind: maml_mtl, order: {choice: [1, 2]}}]}
optimizer: {}
"""


def test_the_grid_has_every_combination_of_active_parameters_once(space_of):
    space = space_of(CONDITIONAL)
    points = list(space.grid())

    assert len(points) == space.grid_size() == (3 + 3 * 4) * (1 + 2)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points)
    assert points[0] == {"model": "shared_bottom", "model.shared_bottom.hidden": 64, "balancing": "uniform"}
    assert {point["model.mmoeex.alpha"] for point in points if point["model"] == "mmoeex"} == {0, 0.1, 0.2, 0.3}
    assert len({space.config(point).model_dump_json() for point in points}) == len(points)


def test_a_grid_needs_values_to_count_off(space_of):
    space = space_of("model: {kind: mmoe}\noptimizer:\n  lr: {float: [0.001, 0.01], log: true}")

    assert space.grid_size() is None
    with pytest.raises(ConfigError, match=r"space.yaml:5:9: .*`optimizer.lr` is .*Give it a step, or a choice"):
        space.grid()


def test_a_grid_of_billions_starts_at_once(space_of):
    space = space_of("model: {kind: mmoe}\nbatch_size: {int: [1, 1000000000]}\noptimizer: {}")

    assert space.grid_size() == 10**9
    assert [point["batch_size"] for point in islice(space.grid(), 2)] == [1, 2]


def test_a_space_without_choices_has_one_point(space_of):
    assert list(space_of("model: {kind: mmoe}\noptimizer: {}").grid()) == [{}]


def test_extremes_are_the_smallest_and_the_largest_of_each_model(space_of):
    ends = space_of(CONDITIONAL).extremes()
    smallest, largest = ends[0], ends[-1]

    assert [config.model.kind for config in ends] == ["shared_bottom", "shared_bottom", "mmoeex", "mmoeex"]
    assert (smallest.model.kind, smallest.model.hidden, smallest.balancing.kind) == ("shared_bottom", 64, "uniform")
    assert (largest.model.kind, largest.model.num_experts) == ("mmoeex", 8)
    assert largest.balancing.order == 2


def test_extremes_satisfy_the_constraints(space_of):
    constraint = "constraints: ['num_experts * hidden <= 1000', 'num_experts * hidden >= 100']\n"
    space = space_of("model: {kind: mmoe, num_experts: {int: [2, 64]}, hidden: {int: [8, 512]}}", constraint)
    smallest, largest = space.extremes()

    assert space.violated(smallest) is None
    assert space.violated(largest) is None
    assert largest.model.num_experts * largest.model.hidden > 900
    assert smallest.model.num_experts * smallest.model.hidden < 150


def test_extremes_can_run(space_of):
    space = space_of("model: {choice: [mmoe, {kind: shared_bottom, hidden: {int: [1, 64]}}]}")
    ends = space.extremes(lambda config: config.model.kind == "shared_bottom" and config.model.hidden < 32)
    assert [config.model.kind for config in ends] == ["shared_bottom", "shared_bottom"]
    assert ends[0].model.hidden < ends[1].model.hidden < 32


def test_extremes_of_an_impossible_space(space_of):
    with pytest.raises(ConfigError, match=r"space.yaml:4:15: no configuration was found that satisfies"):
        space_of("model: mmoe", "constraints: [num_experts < 2]\n").extremes()


@pytest.mark.parametrize(
    ("fixed", "values"),
    [
        ({}, {}),
        ({"model": "mmoeex"}, {"model": "mmoeex"}),
        (
            {"model": {"kind": "mmoeex", "alpha": 0.1, "num_experts": 5}, "balancing": "uniform"},
            {"model": "mmoeex", "model.mmoeex.alpha": 0.1, "model.mmoeex.num_experts": 5, "balancing": "uniform"},
        ),
        ({"optimizer": {"kind": "adamw", "lr": 1e-3}}, {}),  # it is fixed at that
        ({"batch_size": 1024}, {}),
    ],
)
def test_assign_turns_fixed_values_into_parameters(space_of, fixed, values):
    assert space_of(CONDITIONAL).assign(fixed) == values


def test_assign_round_trip(space_of):
    space = space_of(CONDITIONAL)
    for point in space.grid():
        config = space.config(point)

        assert space.assign(config.model_dump()) == point


def test_assign_finds_the_branch_that_fits_among_two_of_a_kind(space_of):
    space = space_of("model: {choice: [{kind: mmoe, num_experts: 4}, {kind: mmoe, num_experts: {int: [8, 16]}}]}")

    assert space.assign({"model": {"kind": "mmoe", "num_experts": 4}}) == {"model": "mmoe"}
    assert space.assign({"model": {"kind": "mmoe", "num_experts": 9}}) == {
        "model": "mmoe#2",
        "model.mmoe#2.num_experts": 9,
    }
    assert space.assign({"model": {"kind": "mmoe#2"}}) == {"model": "mmoe#2"}


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"model": "mmoe"}, "`model` must name one `kind` of shared_bottom, mmoeex as `space:` says, found 'mmoe'"),
        ({"model": "mmoex"}, "says, found 'mmoex'. Did you mean `mmoeex`?"),
        ({"model": {"kind": "shared_botom"}}, "Did you mean `shared_bottom`?"),
        ({"model": {"alpha": 0.1}}, r"`model` must name one `kind` of .* found {alpha: 0.1}$"),
        ({"model": 3}, "`model` must be a mapping"),
        ({"model": {"kind": "mmoeex", "alpha": 0.15}}, r"`alpha` must be in {float: \[0.0, 0.3\], step: 0.1}"),
        ({"model": {"kind": "mmoeex", "alpha": "0.1"}}, "`alpha` must be in"),
        ({"model": {"kind": "mmoeex", "num_experts": True}}, "`num_experts` must be in"),
        ({"model": {"kind": "mmoeex", "alhpa": 0.1}}, "unknown key 'alhpa'; .*Did you mean `alpha`?"),
        ({"model": {"kind": "mmoeex", "hidden": 65}}, "`hidden` is fixed at 64 in `space:`, found 65"),
        ({"model": {"kind": "mmoeex", "expert": {"num_layers": 2}}}, "`num_layers` is fixed at 1"),
        ({"optimizer": "sgd"}, "`optimizer` is adamw in `space:`, found 'sgd'"),
        ({"bach_size": 3}, "Did you mean `batch_size`?"),
        ({"batch_size": [3]}, r"`batch_size` is fixed at 1024 in `space:`, found \[3\]"),
    ],
)
def test_assign_refuses_what_the_space_does_not_have(space_of, fixed, message):
    with pytest.raises(ConfigError, match=message):
        space_of(CONDITIONAL).assign(fixed)


def test_enqueued_configurations_are_checked_where_they_stand(message_of):
    message = message_of(
        """\
data: {source: flights}
space: {model: mmoe}
search:
  enqueue:
    - {model: mmoe, optimizer: {lr: 0.001}}
    - model: {hidden: 100}
      optimizer: {lr: 3.0}
    - 3
"""
    )

    assert message.splitlines() == [
        "space.yaml:6:23: `hidden` must be in {choice: [32, 64, 128, 256]} as `space:` says, found 100",
        "space.yaml:7:23: `lr` must be in {float: [0.0001, 0.01], log: true} as `space:` says, found 3.0",
        "space.yaml:8:7: `enqueue[2]` must be a mapping (`key: value`), found 3",
    ]

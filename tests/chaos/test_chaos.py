"""A monkey kills processes, nodes and drivers of a search: but for the time it takes, the search does not show it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from machines import Machines
from monkey import Monkey, plan
from tiny_search import EPOCHS, TASKS, TRIALS, Found, Tally, found, tally, write_space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours to mend
]
TIMEOUT = 10.0


class Stage(NamedTuple):
    """Where the monkey plays: the cluster, the search's space file, and what it finds undisturbed."""

    machines: Machines
    space: Path
    undisturbed: dict[int, Found]


@pytest.fixture(scope="module")
def stage(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("chaos")
    space = write_space(place, TIMEOUT)
    with Machines.started() as machines:
        undisturbed = found(Monkey(machines, space, place / "undisturbed").search([]))
        yield Stage(machines, space, undisturbed)


def test_an_undisturbed_search_is_whole(stage: Stage) -> None:
    assert sum(each.role == "trial" for each in stage.undisturbed.values()) == TRIALS
    assert len(stage.undisturbed) == TRIALS + TASKS
    assert_whole(stage.undisturbed)
    assert_nothing_left(stage.machines)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 10))])
def test_a_disturbed_search_is_the_undisturbed_one(stage: Stage, tmp_path: Path, seed: int) -> None:
    monkey = Monkey(stage.machines, stage.space, tmp_path / "out")
    disturbed = found(monkey.search(plan(seed), seed))
    assert tally(disturbed, stage.undisturbed) == Tally(lost=0, doubled=0, different=0)
    assert_whole(disturbed)
    assert_nothing_left(stage.machines)


def assert_whole(trials: dict[int, Found]) -> None:
    for each in trials.values():
        assert each.state == "COMPLETE", each.outcome
        assert [line["epoch"] for line in each.epochs] == list(range(1, EPOCHS + 1))
        if each.role == "trial":  # a baseline's are no part of the study: nothing is decided from them
            assert each.intermediate == {line["epoch"]: line["objective"] for line in each.epochs}


def assert_nothing_left(machines: Machines) -> None:
    """Ray itself ends what belonged to a driver that has ended, in a moment."""
    end = time.monotonic() + 60
    while machines.left() and time.monotonic() < end:
        time.sleep(0.1)
    assert machines.left() == {}

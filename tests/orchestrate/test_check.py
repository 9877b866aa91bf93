"""`mtlsearch check`: two steps of the extremes, before a search finds out."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mtlsearch.errors import TrialFailed
from mtlsearch.orchestrate.check import probe_extremes
from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.space import read_experiment

WriteSpace = Callable[..., Path]


@contextmanager
def limited_memory() -> Iterator[None]:
    """At most 8 GiB of addresses, so that what does not fit is refused, not killed."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_extremes_are_trained_and_measured(space_file: WriteSpace) -> None:
    smallest, largest = probe_extremes(make_plan(read_experiment(space_file())))
    assert smallest.num_parameters < largest.num_parameters
    assert smallest.epoch_seconds > smallest.step_seconds > 0


@pytest.mark.slow
def test_models_are_compared_by_their_parameters(space_file: WriteSpace) -> None:
    """Whatever numbers they are described by."""
    space = "{model: {choice: [{kind: perceiver_io, hidden: 8, num_latents: 256}, {kind: mmoe, hidden: 256}]}}"
    smallest, largest = probe_extremes(make_plan(read_experiment(space_file(space=space))))
    assert (smallest.config.model.kind, largest.config.model.kind) == ("perceiver_io", "mmoe")
    assert smallest.num_parameters < largest.num_parameters


def test_a_configuration_that_memory_cannot_hold_is_named(space_file: WriteSpace) -> None:
    """256 experts of four layers of 4,096 units are 51 GB in float32, and their gradients as much again."""
    expert = "{kind: dense, num_layers: 4}"
    space = f"{{model: {{kind: mmoe, hidden: {{choice: [4, 4096]}}, num_experts: 256, expert: {expert}}}}}"
    with limited_memory(), pytest.raises(TrialFailed, match="the largest configuration cannot be trained here"):
        probe_extremes(make_plan(read_experiment(space_file(space=space))))

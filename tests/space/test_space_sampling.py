"""How tasks are sampled is chosen like any other component; joint batches are what a space has without a word of it."""

from __future__ import annotations

import pytest

from mtlsearch.config import (
    AutoSemConfig,
    DoReMiConfig,
    JointConfig,
    ProportionalConfig,
    StratifiedConfig,
    UniformSamplingConfig,
)
from mtlsearch.space import Replay
from mtlsearch.space.domain import CategoryDomain, FloatDomain

SPACE = "model: {kind: mmoe}\noptimizer: {}\n"


def test_left_out_it_is_joint_and_nothing_is_searched(space_of):
    space = space_of(SPACE)
    assert not space.dimensions
    assert space.suggest(Replay({})).sampling == JointConfig()


@pytest.mark.parametrize(
    ("kind", "ranges", "expected"),
    [
        ("uniform", {}, UniformSamplingConfig()),
        ("proportional", {"tau": (FloatDomain(0.0, 1.0), 0.3)}, ProportionalConfig(tau=0.3)),
        ("stratified", {"share": (FloatDomain(0.05, 0.5), 0.4)}, StratifiedConfig(share=0.4)),
        (
            "autosem",
            {"decay": (FloatDomain(0.9, 0.999), 0.95), "drop_below": (FloatDomain(0.005, 0.05, log=True), 0.01)},
            AutoSemConfig(decay=0.95, drop_below=0.01),
        ),
        ("doremi", {}, DoReMiConfig(eta=1.0, smoothing=1e-3)),
    ],
)
def test_a_named_kind_takes_its_default_ranges(space_of, kind, ranges, expected):
    space = space_of(f"{SPACE}sampling: {kind}")
    assert space.dimensions == {f"sampling.{name}": domain for name, (domain, _) in ranges.items()}
    chosen = {f"sampling.{name}": value for name, (_, value) in ranges.items()}
    assert space.suggest(Replay(chosen)).sampling == expected


def test_kinds_are_a_choice(space_of):
    space = space_of(f"{SPACE}sampling: {{choice: [joint, {{kind: proportional, tau: 0.5}}]}}")
    assert space.dimensions == {"sampling": CategoryDomain(("joint", "proportional"))}
    assert space.suggest(Replay({"sampling": "proportional"})).sampling == ProportionalConfig(tau=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        "{kind: proportional, tau: 1.5}",
        "{kind: stratified, share: 0.0}",
        "{kind: autosem, drop_below: 0.5}",
        "{kind: doremi, c: 1.0e-3}",
    ],
)
def test_what_cannot_be_is_refused_at_its_line(message_of, wrong):
    told = message_of(f"data: {{source: flights}}\nspace:\n  model: mmoe\n  sampling: {wrong}\n")
    assert told.startswith("space.yaml:4:")

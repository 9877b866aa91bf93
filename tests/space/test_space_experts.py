"""What an expert is made of is chosen like any other component."""

from __future__ import annotations

import pytest

from mtlsearch.config import DenseConfig, MMoEConfig, TrialConfig
from mtlsearch.config.model import GruConfig, LstmConfig, RnnConfig
from mtlsearch.errors import ConfigError
from mtlsearch.space import Replay
from mtlsearch.space.domain import CategoryDomain, IntDomain

KINDS = {"gru": GruConfig, "lstm": LstmConfig, "rnn": RnnConfig}


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_recurrent_expert_takes_its_default_range(space_of, kind):
    space = space_of(f"model: {{kind: mmoe, expert: {kind}}}")

    assert space.dimensions["model.expert.num_layers"] == IntDomain(1, 2)
    config = space.suggest(Replay({"model.expert.num_layers": 2, "optimizer.lr": 1e-3}))
    assert config.model == MMoEConfig(expert=KINDS[kind](num_layers=2))
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_a_choice_of_experts_is_searched_and_each_brings_its_own_range(space_of):
    space = space_of("model: {kind: mmoe, expert: {choice: [dense, gru]}}\noptimizer: {}")

    assert space.dimensions == {
        "model.expert": CategoryDomain(("dense", "gru")),
        "model.expert.dense.num_layers": IntDomain(1, 3),
        "model.expert.gru.num_layers": IntDomain(1, 2),
    }
    chosen = {"model.expert": "gru", "model.expert.gru.num_layers": 1}
    assert space.suggest(Replay(chosen)).model == MMoEConfig(expert=GruConfig())
    chosen = {"model.expert": "dense", "model.expert.dense.num_layers": 3}
    assert space.suggest(Replay(chosen)).model == MMoEConfig(expert=DenseConfig(num_layers=3))


def test_an_expert_that_is_written_out_is_fixed_at_its_defaults(space_of):
    space = space_of("model: {kind: single_task, expert: {kind: lstm}}\noptimizer: {}")

    assert space.dimensions == {}
    assert space.suggest(Replay({})).model.expert == LstmConfig()


def test_an_unknown_expert_is_refused_with_those_that_there_are(read):
    with pytest.raises(ConfigError) as refused:
        read("data: {source: flights}\nspace:\n  model: {kind: mmoe, expert: gruu}\n")

    assert "gru" in str(refused.value)
    assert "space.yaml" in str(refused.value)

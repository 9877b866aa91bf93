"""Which parameters mattered: the one that decides the objective does, in whatever branch it is; noise does not."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from mtlsearch.search.attributes import BASELINE
from mtlsearch.search.importance import FEWEST, read_importance

RATE = FloatDistribution(0.0, 1.0)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"


def write(journal: Path, count: int, state: TrialState = TrialState.COMPLETE) -> dict[int, float]:
    """Trials whose objective is their `rate`, and the same by number of another score, which is their `noise`."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    draw, other = random.Random(1), {}
    baseline = optuna.trial.create_trial(value=9.0, user_attrs={BASELINE: "t"})
    storage.create_new_trial(study._study_id, template_trial=baseline)
    for number in range(1, count + 1):
        deep = draw.random() < 0.5
        params = {"model": "deep" if deep else "flat", "rate": draw.random(), "noise": draw.random()}
        ranges = {"model": CategoricalDistribution(["deep", "flat"]), "rate": RATE, "noise": RATE}
        if deep:
            params["model.deep.width"], ranges["model.deep.width"] = draw.random(), RATE
        other[number] = float(params["noise"])
        trial = optuna.trial.create_trial(
            state=state, value=params["rate"], params=params, distributions=ranges, intermediate_values={1: 0.5}
        )
        storage.create_new_trial(study._study_id, template_trial=trial)
    return other


def test_shares_add_up_and_the_deciding_parameter_is_first(journal: Path) -> None:
    noise = write(journal, 80)
    found = read_importance(journal, {"t": noise})
    assert found.num_trials == 80
    for shares, deciding in ((found.objective, "rate"), (found.tasks["t"], "noise")):
        assert sum(shares.values()) == pytest.approx(1)
        assert next(iter(shares)) == deciding
        assert shares[deciding] > 0.5
        assert set(shares) == {"model", "rate", "noise", "model.deep.width"}


def test_few_trials_say_nothing(journal: Path) -> None:
    write(journal, FEWEST - 1)
    assert read_importance(journal, {"t": {}}).objective == {}


def test_equal_scores_say_nothing(journal: Path) -> None:
    noise = write(journal, 20)
    assert read_importance(journal, {"t": dict.fromkeys(noise, 1.0)}).tasks == {"t": {}}
    assert read_importance(journal, {"t": dict.fromkeys(noise, float("nan"))}).tasks == {"t": {}}


def test_only_complete_trials_count(journal: Path) -> None:
    write(journal, 20, TrialState.PRUNED)
    found = read_importance(journal, {})
    assert (found.num_trials, dict(found.objective)) == (0, {})


def test_a_search_that_has_not_begun(journal: Path) -> None:
    assert read_importance(journal, {"t": {}}).num_trials == 0

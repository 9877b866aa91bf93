"""Indexes of a study answer what a look at all of its trials would: to the last bit Optuna's own pruners and TPE."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from conftest_search import SPACE, Read
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mtlsearch.search import tpe
from mtlsearch.search.attributes import BASELINE, is_apart
from mtlsearch.search.history import history_of
from mtlsearch.search.journal import AtomicJournal, StudyJournal
from mtlsearch.search.pruners import Hyperband, Percentile, SuccessiveHalving, _percentile
from mtlsearch.search.samplers import Asked, build_sampler
from mtlsearch.search.study import SearchStudy
from mtlsearch.space import Experiment

EPOCHS = 9
PAIRS: dict[str, tuple[Any, Any]] = {
    "median": (Percentile(50.0, 5, 1), optuna.pruners.MedianPruner(5, 1)),
    "percentile": (Percentile(25.0, 0, 0), optuna.pruners.PercentilePruner(25.0, 0, 0)),
    "percentile 90": (Percentile(90.0, 3, 2), optuna.pruners.PercentilePruner(90.0, 3, 2)),
    "successive halving": (SuccessiveHalving(1, 2, 0), optuna.pruners.SuccessiveHalvingPruner(1, 2, 0)),
    "successive halving, late": (SuccessiveHalving(1, 3, 1), optuna.pruners.SuccessiveHalvingPruner(1, 3, 1)),
    "hyperband": (Hyperband(1, EPOCHS, 3), optuna.pruners.HyperbandPruner(1, EPOCHS, 3)),
    "hyperband by 2": (Hyperband(2, EPOCHS, 2), optuna.pruners.HyperbandPruner(2, EPOCHS, 2)),
}


@contextmanager
def indexed(path: Path, sampler: BaseSampler, pruner: BasePruner) -> Iterator[SearchStudy]:
    """A study with a history. All is one transaction, so that no disk is waited for."""
    journal = AtomicJournal(path)
    with journal.transaction():
        storage = StudyJournal(journal, is_apart)
        if not storage.get_all_studies():
            storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "s")
        study = SearchStudy(study_name="s", storage=storage, sampler=sampler, pruner=pruner)
        assert history_of(study) is not None
        yield study


def plain(sampler: BaseSampler, pruner: BasePruner) -> Study:
    """A study as anybody makes it."""
    study = optuna.create_study(study_name="s", direction="maximize", sampler=sampler, pruner=pruner)
    assert history_of(study) is None
    return study


def live(study: Study, seed: int, trials: int, slots: int = 8, space: Experiment | None = None) -> list[Any]:
    """Runs trials side by side with made-up values, many of them equal; what was decided and proposed, in order."""
    draw = random.Random(seed)
    running: dict[int, tuple[optuna.Trial, list[float]]] = {}
    seen: list[Any] = []
    while len(study.get_trials(deepcopy=False)) < trials or running:
        if len(running) < slots and len(study.get_trials(deepcopy=False)) < trials:
            trial = study.ask()
            if space is not None:
                space.space.suggest(Asked(trial))
                seen.append(trial.params)
            running[trial.number] = (trial, [])
            continue
        number = draw.choice(sorted(running))
        trial, values = running[number]
        values.append(round(draw.gauss(len(values) / 4, 1), draw.choice((1, 12))))
        trial.report(values[-1], len(values))
        if draw.random() < 0.02:
            study.tell(number, state=TrialState.FAIL)
        elif len(values) == EPOCHS:
            study.tell(number, max(values))
        elif stops := trial.should_prune():
            seen.append((number, len(values), stops))
            study.tell(number, state=TrialState.PRUNED)
        else:
            continue
        del running[number]
    return seen


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_pruner_decides_as_optunas_does_over_a_long_history(tmp_path: Path, name: str, seed: int) -> None:
    ours, theirs = PAIRS[name]
    with indexed(tmp_path / "study.journal", RandomSampler(seed=0), ours) as study:
        decided = live(study, seed, trials=250)
    assert decided == live(plain(RandomSampler(seed=0), theirs), seed, trials=250)
    assert 0 < len(decided) < 250, "it decided something, and not always the same"


def test_a_pruner_knows_what_was_there_before_it(tmp_path: Path) -> None:
    """A driver that takes over reads the study from disk."""
    path, (_, theirs) = tmp_path / "study.journal", PAIRS["hyperband"]
    with indexed(path, RandomSampler(seed=0), Hyperband(1, EPOCHS, 3)) as study:
        before = live(study, 1, trials=60)
    with indexed(path, RandomSampler(seed=0), Hyperband(1, EPOCHS, 3)) as study:
        after = live(study, 2, trials=120)
    whole = plain(RandomSampler(seed=0), theirs)
    assert [before, after] == [live(whole, 1, trials=60), live(whole, 2, trials=120)]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97])
def test_a_percentile_is_numpys_to_the_last_bit(count: int) -> None:
    draw = random.Random(count)
    for _ in range(200):
        values, percent = sorted(draw.gauss(0, 1) for _ in range(count)), draw.uniform(0, 100)
        assert _percentile(values, percent) == float(np.nanpercentile(np.array(values), percent))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tpe_proposes_what_optunas_does(read: Read, tmp_path: Path, seed: int) -> None:
    """With trials under way, pruned and failed ones, and branches that no finished trial has had for a while."""
    experiment = read("search.sampler={kind: tpe, n_startup_trials: 4}")

    def sampler() -> BaseSampler:
        return build_sampler(experiment.search.sampler, experiment.space, seed, lambda config: True)

    theirs = live(plain(sampler(), PAIRS["median"][1]), seed, 60, slots=5, space=experiment)
    with indexed(tmp_path / "study.journal", sampler(), Percentile(50.0, 5, 1)) as study:
        assert live(study, seed, 60, slots=5, space=experiment) == theirs


class TestBounded:
    """A history that is longer than what a proposal looks at."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tpe, "MOST_FINISHED", 20)
        monkeypatch.setattr(tpe, "MOST_RUNNING", 3)

    def test_the_good_trials_are_of_the_whole_history_and_the_others_are_the_latest(self) -> None:
        known = tpe.Known()
        for number in range(200):
            known.changed(None, ended(number, value=float(-abs(number - 5))))
        good, others = known.split_lately(asking=200)
        assert [each["x"] for each in good] == list(range(20))  # a tenth, from 5 on both ways
        assert [each["x"] for each in others] == list(range(180, 200))

    def test_what_runs_stands_beside_them(self) -> None:
        known = tpe.Known()
        for number in range(100):
            known.changed(None, ended(number, value=float(number)))
        for number in range(100, 110):
            known.changed(None, ended(number, value=None, state=TrialState.RUNNING))
        _, others = known.split_lately(asking=108)
        assert [each["x"] for each in others[-3:]] == [105, 106, 107]

    @pytest.mark.slow
    def test_proposals_follow_from_the_study_and_the_seed(self, read: Read, tmp_path: Path) -> None:
        text = SPACE + "constraints:\n  - hidden <= 64\n"
        experiment, path = (
            read("search.sampler={kind: tpe, n_startup_trials: 4}", text=text),
            tmp_path / "study.journal",
        )

        def sampler() -> BaseSampler:
            return build_sampler(
                experiment.search.sampler, experiment.space, 7, lambda config: not experiment.space.violated(config)
            )

        with indexed(path, sampler(), Percentile(50.0, 5, 1)) as study:
            live(study, 1, 70, slots=5, space=experiment)
        proposed = []
        for copy in ("one", "two"):
            (tmp_path / copy).write_bytes(path.read_bytes())
            with indexed(tmp_path / copy, sampler(), Percentile(50.0, 5, 1)) as study:
                proposed.append(live(study, 2, 90, slots=5, space=experiment))
        assert proposed[0] == proposed[1]
        assert len(proposed[0]) >= 20


def ended(number: int, value: float | None, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial with one parameter, its number."""
    trial = optuna.trial.create_trial(
        state=state,
        value=value,
        params={"x": number},
        distributions={"x": optuna.distributions.IntDistribution(0, 1000)},
    )
    trial.number = number
    return trial


def test_trials_that_are_apart_are_no_part_of_a_history(tmp_path: Path) -> None:
    with indexed(tmp_path / "study.journal", RandomSampler(seed=0), Percentile(50.0, 0, 0)) as study:
        apart = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={BASELINE: "late"})
        study._storage.create_new_trial(study._study_id, template_trial=apart)
        trial = study.ask()
        history = history_of(study)
        assert history is not None
        assert list(history.trials) == [trial.number] == [1]
        assert study.tally().num_own == study.tally().num_trials == 1


def test_a_tally_counts_and_knows_the_best(tmp_path: Path) -> None:
    with indexed(tmp_path / "study.journal", RandomSampler(seed=0), Percentile(50.0, 0, 0)) as study:
        study.enqueue_trial({})
        assert (study.tally().num_own, len(study.tally().waiting)) == (0, 1)
        for value in (1.0, 3.0, 3.0):
            study.tell(study.ask().number, value)
        running = study.ask()
        tally = study.tally()
        assert (tally.num_own, tally.num_trials, len(tally.waiting)) == (4, 4, 0)
        assert tally.states[TrialState.RUNNING] == 1
        assert study.best_trial.number == 1
        study.tell(running.number, state=TrialState.FAIL)
        assert study.tally().states[TrialState.RUNNING] == 0

"""Schedules of tasks: the papers' updates written plainly, and draws that only (seed, epoch, step) and state decide."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from mtlsearch.config import AutoSemConfig, DoReMiConfig, Task
from mtlsearch.data import DataSchema
from mtlsearch.data.schema import SplitCounts
from mtlsearch.data.task_sampling import AutoSem, DoReMi, Proportional, Schedule, constant_losses, labelled_rows
from mtlsearch.data.task_sampling.autosem import exceeds
from mtlsearch.records import derive_seed

ALL = [True] * 3
REFERENCES = (0.4, 0.2, 0.6)
DOREMI = DoReMiConfig(eta=0.7, smoothing=0.05)


def served(schedule: Schedule, epoch: int, steps: int, available: Sequence[bool] = ALL, start: int = 0) -> list[int]:
    schedule.begin_epoch(epoch)
    return [schedule.task(step, available) for step in range(start, steps)]


class TestProportional:
    """p_k ∝ n_k^τ."""

    @pytest.mark.parametrize(
        ("tau", "expected"),
        [(1.0, (0.1, 0.4, 0.5)), (0.0, (1 / 3, 1 / 3, 1 / 3)), (0.5, (10 / 52.36, 20 / 52.36, 22.36 / 52.36))],
    )
    def test_probabilities(self, tau: float, expected: tuple[float, ...]) -> None:
        schedule = Proportional((100, 400, 500), tau, seed=1)
        assert schedule.weights == pytest.approx(expected, abs=1e-4)
        counts = Counter(served(schedule, 1, 6000))
        assert [counts[task] / 6000 for task in range(3)] == pytest.approx(expected, abs=0.02)
        assert schedule.shares == tuple(counts[task] / 6000 for task in range(3))

    @pytest.mark.parametrize("tau", [0.0, 1.0])
    def test_a_task_without_rows_is_never_served(self, tau: float) -> None:
        assert set(served(Proportional((100, 0, 5), tau, seed=1), 1, 300)) == {0, 2}

    def test_pinned(self) -> None:
        assert served(Proportional((100, 400, 500), 1.0, seed=1), 1, 12) == PINNED

    def test_what_is_not_available_waits(self) -> None:
        schedule = Proportional((100, 400, 500), 0.0, seed=1)
        assert set(served(schedule, 1, 100, [True, False, True])) == {0, 2}
        assert not schedule.serves([False] * 3)

    def test_seed_epoch_and_step_decide(self) -> None:
        first, other = (served(Proportional((1, 1, 1), 1.0, seed), 1, 40) for seed in (1, 2))
        schedule = Proportional((1, 1, 1), 1.0, seed=1)
        assert first != other
        assert served(schedule, 2, 40) != first
        assert served(schedule, 1, 40) == first  # whatever was drawn in between


PINNED = [2, 1, 1, 2, 0, 1, 1, 2, 2, 2, 2, 2]


class PlainAutoSem:
    """Algorithm 1 with an epoch as a round, half of which serves what the round drew."""

    def __init__(self, decay: float, seed: int) -> None:
        self.decay, self.seed, self.parameters = decay, seed, [(1.0, 1.0)] * 3

    def draw(self, draw: random.Random) -> int:
        theta = [draw.betavariate(alpha, beta) for alpha, beta in self.parameters]
        return theta.index(max(theta))

    def epoch(self, epoch: int, steps: int) -> list[int]:
        self.favoured, tasks = self.draw(random.Random(derive_seed(self.seed, "round", epoch))), []
        for step in range(steps):
            draw = random.Random(derive_seed(self.seed, "task", epoch, step))
            tasks.append(self.favoured if draw.random() < 0.5 else self.draw(draw))
        return tasks

    def reward(self, r: int) -> None:
        for task in range(3):
            alpha, beta = (self.decay * old + (1 - self.decay) * 1.0 for old in self.parameters[task])
            it = task == self.favoured
            self.parameters[task] = (alpha + it * r, beta + it * (1 - r))


class RewardsWhatWasServed(AutoSem):
    """A mutant: every task gets the reward by its share of the epoch."""

    def reward(self, improved: bool) -> None:
        decay = self._config.decay
        for task, share in enumerate(self.shares):
            self._alpha[task] = decay * self._alpha[task] + 1 - decay + share * improved
            self._beta[task] = decay * self._beta[task] + 1 - decay + share * (not improved)
        self._drop()


def trial(schedule: AutoSem, improves: Callable[[Sequence[float], random.Random], bool], num_tasks: int = 3) -> AutoSem:
    """After 100 epochs of 20 steps, each rewarded as its shares of tasks and a coin tell."""
    draw = random.Random(5)
    for epoch in range(1, 101):
        served(schedule, epoch, 20, [True] * num_tasks)
        schedule.reward(improves(schedule.shares, draw))
    return schedule


def harmed_by_the_last(shares: Sequence[float], draw: random.Random) -> bool:
    """Where all are served alike, validation is as likely to improve as not."""
    return sum(shares[:-1]) - (len(shares) - 1) * shares[-1] + draw.gauss(0, 0.3) > 0


class TestAutoSem:
    """Thompson sampling from decaying Beta distributions."""

    @pytest.mark.parametrize(("kind", "agrees"), [(AutoSem, True), (RewardsWhatWasServed, False)])
    def test_as_in_the_paper(self, kind: type[AutoSem], agrees: bool) -> None:
        schedule, plain = kind(AutoSemConfig(decay=0.93, drop_below=0.0), ALL, seed=4), PlainAutoSem(0.93, 4)
        found, expected = [], []
        for epoch, improved in enumerate((True, False, True, True, False, False), start=1):
            found.append(served(schedule, epoch, 20))
            expected.append(plain.epoch(epoch, 20))
            schedule.reward(improved)
            plain.reward(int(improved))
        plainly = [alpha / (alpha + beta) for alpha, beta in plain.parameters]
        assert (found == expected) == agrees
        assert (schedule.utilities == pytest.approx(plainly, abs=1e-12)) == agrees

    def test_half_of_an_epoch_serves_the_task_of_the_round(self) -> None:
        schedule = AutoSem(AutoSemConfig(), [True] * 5, seed=2)
        shares = []
        for epoch in range(1, 40):
            served(schedule, epoch, 400, [True] * 5)
            shares.append(schedule.shares)
        assert [max(each) for each in shares] == [pytest.approx(0.5 + 0.5 / 5, abs=0.1)] * 39
        assert {each.index(max(each)) for each in shares} == set(range(5))

    def test_a_task_that_is_not_available_is_favoured_in_vain(self) -> None:
        schedule = AutoSem(AutoSemConfig(decay=1.0), ALL, seed=2)
        for epoch in range(1, 20):
            assert set(served(schedule, epoch, 20, [False, True, True])) == {1, 2}
            schedule.reward(improved=True)
        assert schedule.utilities[0] == 0.5

    def test_a_useful_task_is_served_more(self) -> None:
        """Validation improves in the epochs that mostly serve task 1."""
        schedule = AutoSem(AutoSemConfig(decay=0.999, drop_below=0.0), ALL, seed=2)
        for epoch in range(1, 200):
            tasks = served(schedule, epoch, 3)
            schedule.reward(tasks.count(1) >= 2)
        assert max(range(3), key=lambda task: schedule.utilities[task]) == 1
        assert Counter(served(schedule, 200, 100))[1] > 60

    @pytest.mark.parametrize("num_tasks", [2, 3, 6])
    def test_a_harmful_task_is_dropped_and_no_other(self, num_tasks: int) -> None:
        """With the default settings, in most of ten trials; a useful one in none."""
        schedules = [AutoSem(AutoSemConfig(), [True] * num_tasks, seed) for seed in range(10)]
        dropped = Counter(trial(each, harmed_by_the_last, num_tasks).dropped for each in schedules)
        assert set(dropped) <= {(), (num_tasks - 1,)}
        assert dropped[(num_tasks - 1,)] >= 7

    @pytest.mark.parametrize("improves", [True, False])
    def test_where_tasks_are_alike_all_are_kept(self, improves: bool) -> None:
        """Also where nothing improves any more: all look bad then."""
        for seed in range(6):
            assert trial(AutoSem(AutoSemConfig(), ALL, seed), lambda *_: improves).dropped == ()

    def test_a_task_that_was_not_favoured_yet_is_kept(self) -> None:
        """However sure it is that the others are useful."""
        schedule = AutoSem(AutoSemConfig(decay=1.0, drop_below=0.49), ALL, seed=1)
        schedule.load_state_dict(schedule.state_dict() | {"alpha": [500.0, 500.0, 1.0], "beta": [1.0, 1.0, 1.0]})
        served(schedule, 1, 5, [True, True, False])
        schedule.reward(improved=True)
        assert schedule.dropped == ()

    def test_0_keeps_all(self) -> None:
        assert trial(AutoSem(AutoSemConfig(drop_below=0.0), ALL, 1), harmed_by_the_last).dropped == ()

    def test_what_is_dropped_is_dropped_for_good_and_one_is_left(self) -> None:
        able = [True, True, False]
        schedule = AutoSem(AutoSemConfig(decay=1.0, drop_below=0.49), able, seed=2)
        for epoch in range(1, 30):
            served(schedule, epoch, 20, able)
            schedule.reward(improved=False)
        assert len(schedule.dropped) == 1  # of two that have labels
        (left,) = {0, 1} - set(schedule.dropped)
        for epoch in range(30, 60):
            assert set(served(schedule, epoch, 20, able)) == {left}
            schedule.reward(improved=True)
        assert schedule.weights[left] == 1.0
        assert not schedule.serves([task in schedule.dropped for task in range(3)])

    @pytest.mark.parametrize(
        ("one", "other", "probability"),
        [((1, 1), (1, 1), 1 / 2), ((1, 2), (4, 1), 1 / 15), ((1, 3), (5, 1), 1 / 56), ((7, 3), (7, 3), 1 / 2)],
    )
    def test_the_probability_of_being_more_useful(self, one, other, probability) -> None:
        assert exceeds(one, other) == pytest.approx(probability, abs=1e-4)
        assert exceeds(other, one) == pytest.approx(1 - probability, abs=1e-4)


def plain_doremi(losses: list[list[float | None]]) -> list[float]:
    """Algorithm 1 over observed losses; a task keeps its last excess, one never seen has the largest."""
    weights, excess = [1 / 3] * 3, [None, None, None]
    for each in losses:
        for task, loss in enumerate(each):
            if loss is not None:
                excess[task] = max(loss - REFERENCES[task], 0)
        known = [value for value in excess if value is not None]
        used = [max(known) if value is None else value for value in excess]
        weights = [w * math.exp(DOREMI.eta * e) for w, e in zip(weights, used, strict=True)]
        weights = [w / sum(weights) for w in weights]
        weights = [(1 - DOREMI.smoothing) * w + DOREMI.smoothing / 3 for w in weights]
    return weights


class Unclipped(DoReMi):
    """A mutant: a task that is better than its reference loses weight."""

    def observe(self, losses: Sequence[float]) -> None:
        for task, loss in enumerate(losses):
            self._references[task] = min(REFERENCES[task], loss) - 1 if loss < REFERENCES[task] else REFERENCES[task]
        super().observe(losses)


class Unsmoothed(DoReMi):
    """A mutant: no c/K."""

    def observe(self, losses: Sequence[float]) -> None:
        self._config = self._config.model_copy(update={"smoothing": 0.0})
        super().observe(losses)


class TestDoReMi:
    """Weights that grow with the excess loss."""

    @pytest.mark.parametrize(("kind", "agrees"), [(DoReMi, True), (Unclipped, False), (Unsmoothed, False)])
    def test_as_in_the_paper(self, kind: type[DoReMi], agrees: bool) -> None:
        losses = [[0.9, None, 0.7], [0.8, 0.1, None], [None, 0.5, 0.9], [0.3, 0.15, 0.5], [0.7, 0.7, 0.7]]
        schedule = kind(DOREMI, REFERENCES, ALL, seed=3)
        for upto, each in enumerate(losses, start=1):
            schedule.observe([math.nan if loss is None else loss for loss in each])
            if agrees:
                assert schedule.weights == pytest.approx(plain_doremi(losses[:upto]), abs=1e-12)
                assert sum(schedule.weights) == pytest.approx(1.0)
        assert (schedule.weights == pytest.approx(plain_doremi(losses), abs=1e-6)) == agrees

    def test_pinned(self) -> None:
        schedule = DoReMi(DoReMiConfig(), (0.0, 0.0), (True, True), seed=1)
        schedule.observe((math.log(3), 0.0))
        assert schedule.weights == pytest.approx((0.74975, 0.25025))

    def test_the_mean_is_over_steps(self) -> None:
        schedule = DoReMi(DOREMI, REFERENCES, ALL, seed=3)
        assert schedule.mean_weights == (0.0, 0.0, 0.0)
        first = schedule.weights
        served(schedule, 1, 30)
        schedule.observe((2.0, 0.0, 0.0))
        served(schedule, 1, 40, start=30)
        expected = [(30 * a + 10 * b) / 40 for a, b in zip(first, schedule.weights, strict=True)]
        assert schedule.mean_weights == pytest.approx(expected)

    def test_huge_and_missing_losses_leave_weights_finite(self) -> None:
        schedule = DoReMi(DoReMiConfig(), REFERENCES, ALL, seed=3)
        schedule.observe((math.nan, math.nan, math.nan))
        assert schedule.weights == pytest.approx((1 / 3,) * 3)
        schedule.observe((1e9, math.inf, math.nan))  # not finite: not seen
        schedule.observe((1e9, 0.0, 0.0))
        assert schedule.weights == pytest.approx((1.0, 0.0, 0.0), abs=1e-3)
        assert min(schedule.weights) > 0

    def test_a_task_without_labels_weighs_nothing(self) -> None:
        schedule = DoReMi(DoReMiConfig(), REFERENCES, (True, False, True), seed=3)
        schedule.observe((0.5, math.nan, 0.5))
        assert schedule.weights[1] == 0.0
        assert sum(schedule.weights) == pytest.approx(1.0)


def _learn(schedule: Schedule) -> None:
    match schedule:
        case AutoSem():
            schedule.reward(improved=False)
        case DoReMi():
            schedule.observe((0.9, math.nan, 0.7))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Proportional((5, 9, 2), 0.5, seed=8),
        lambda: AutoSem(AutoSemConfig(decay=0.9, drop_below=0.45), ALL, seed=8),
        lambda: DoReMi(DOREMI, REFERENCES, ALL, seed=8),
    ],
)
def test_a_schedule_goes_on_in_the_middle_of_an_epoch(make: Callable[[], Schedule]) -> None:
    whole, again = make(), make()
    served(whole, 1, 25)
    _learn(whole)
    served(whole, 2, 10)
    if isinstance(whole, DoReMi):
        _learn(whole)
    again.load_state_dict(whole.state_dict())
    assert served(again, 2, 30) == served(whole, 2, 30)  # from the first step: what was served is served again
    assert again.shares == whole.shares
    _learn(whole)
    _learn(again)
    assert served(again, 3, 30) == served(whole, 3, 30)
    assert (again.weights, again.dropped) == (whole.weights, whole.dropped)


TASKS = (
    Task(name="late", kind="binary"),
    Task(name="delay", kind="regression"),
    Task(name="why", kind="multiclass", classes=("a", "b", "c")),
    Task(name="codes", kind="multilabel", classes=("x", "y"), per_step=True),
)


def test_what_a_schema_says() -> None:
    counts = SplitCounts(
        name="train",
        num_rows=100,
        num_steps=1000,
        missing=(20, 60, 0, 200),
        frequencies=((20,), (), (50, 25, 25), (400, 80)),
    )
    schema = DataSchema(
        source="toy",
        data_digest="toy",
        tasks=TASKS,
        numeric=(),
        categorical=(),
        label_mean=(0.0,) * 4,
        label_std=(1.0,) * 4,
        splits=(counts,),
    )
    assert labelled_rows(schema, TASKS) == (80, 40, 100, 100)
    assert labelled_rows(schema, TASKS[1:2]) == (40,)

    def entropy(*parts: float) -> float:
        return -sum(part * math.log(part) for part in parts)

    expected = {
        "late": entropy(0.25, 0.75),
        "delay": 1.0,
        "why": entropy(0.5, 0.25, 0.25),
        "codes": (entropy(0.5, 0.5) + entropy(0.1, 0.9)) / 2,
    }
    assert constant_losses(schema, TASKS) == pytest.approx(expected)

"""What is asked of a study with every report, kept up to date trial by trial.

Optuna's pruners and samplers read all trials of a study each time they are asked, so a report costs more the longer
the search has run. A journal tells its changes one by one: whoever needs an answer keeps an index, which hears of
each change as it is read. An index says what a look at all trials would say, nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Index(Protocol):
    """Something that is known of all trials, without those that are apart."""

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """A trial is new (`before` is None), or is another than it was. Neither may be changed."""


class History:
    """A study's trials as they change, without those that are apart (baselines, final ones)."""

    def __init__(self) -> None:
        self.trials: dict[int, FrozenTrial] = {}
        """By number, ascending."""
        self.apart: dict[int, FrozenTrial] = {}
        """Those that are apart, which no index hears of."""
        self._indexes: list[Index] = []

    def attach(self, index: Index) -> None:
        """From now on the index hears of every change; first of what there is."""
        for trial in self.trials.values():
            index.changed(None, trial)
        self._indexes.append(index)

    def changed(self, trial: FrozenTrial) -> None:
        """Takes a trial that is new, in the order of their numbers, or another than it was."""
        before = self.trials.get(trial.number)
        self.trials[trial.number] = trial
        for index in self._indexes:
            index.changed(before, trial)


def history_of(study: Study) -> History | None:
    """The study's history where one is kept; else whoever asks must look at all trials."""
    return getattr(study, "history", None)


IndexT = TypeVar("IndexT", bound=Index)


class Kept(Generic[IndexT]):
    """An index of the history that it is asked about last."""

    def __init__(self) -> None:
        self._history: History | None = None
        self._index: IndexT | None = None

    def over(self, history: History, new: Callable[[], IndexT]) -> IndexT:
        """The index, up to date."""
        if self._index is None or self._history is not history:
            self._history, self._index = history, new()
            history.attach(self._index)
        return self._index


class Tally:
    """How many trials there are of each state, which wait, and which complete one is the best.

    Args:
        is_own: whether this experiment started the trial.
    """

    def __init__(self, is_own: Callable[[FrozenTrial], bool]) -> None:
        self._is_own = is_own
        self.num_own = 0
        self.states: Counter[TrialState] = Counter()
        self.waiting: dict[int, FrozenTrial] = {}
        self.best: FrozenTrial | None = None
        """The first of equals."""

    @property
    def num_trials(self) -> int:
        """In whatever state."""
        return self.states.total()

    def changed(self, before: FrozenTrial | None, after: FrozenTrial) -> None:
        """Counts the trial in its new state."""
        if before is not None:
            if before.state == after.state:
                return
            self.states[before.state] -= 1
            self.num_own -= self._is_own(before)
            self.waiting.pop(before.number, None)
        self.states[after.state] += 1
        self.num_own += self._is_own(after)
        if after.state == TrialState.WAITING:
            self.waiting[after.number] = after
        if after.state == TrialState.COMPLETE and (self.best is None or _is_better(after, self.best)):
            self.best = after


def _is_better(one: FrozenTrial, other: FrozenTrial) -> bool:
    return (one.value, -one.number) > (other.value, -other.number)

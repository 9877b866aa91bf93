"""The search: what to try next, and after each epoch whether to go on. No training, no machines.

    order = search.next()                      # a trial to start, or None while there is nothing to start
    decision = search.report(number, metrics)  # after each of its epochs
    search.fail(number, reason)                # or: it cannot go on

Each call is one transaction of the study, so whatever kills the driver, the study holds the state before the call
or the state after it; a new `Search` over the same study goes on from there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from optuna.trial import FrozenTrial, TrialState

from mtlsearch.config import Served, TrialConfig
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.errors import MtlsearchError
from mtlsearch.records import CONTINUE, Decision, EpochMetrics, Scores, TrialOrder, TrialRecord, derive_seed
from mtlsearch.search.attributes import (
    BASELINE,
    FINAL,
    OUTCOME,
    SCORE,
    TRAIN_LOSS,
    Again,
    again_of,
    is_apart,
    is_own,
    role_of,
    task_of,
)
from mtlsearch.search.finals import plan_finals
from mtlsearch.search.fixed import admits, baseline_config, identity
from mtlsearch.search.place import Database, StudyPlace
from mtlsearch.search.pruners import build_pruner
from mtlsearch.search.reading import check_study
from mtlsearch.search.samplers import Asked, GridSampler, build_sampler, distributions
from mtlsearch.search.study import OpenStudy
from mtlsearch.search.warm_start import Earlier
from mtlsearch.space import Experiment

Clock = Callable[[], float]


def first_configurations(
    experiment: Experiment, served: Served, count: int, earlier: Earlier | None = None
) -> list[TrialConfig]:
    """What a new search would propose first, before it has any result; fewer than `count` if it has fewer trials."""
    with TemporaryDirectory() as scratch:
        journal = Path(scratch) / "study.journal"
        search = Search(experiment, served, journal, past=lambda number: [], earlier=lambda: earlier)
        return search.rehearse(count)


def check_storage(experiment: Experiment, served: Served, data_digest: str | None = None) -> None:
    """Looks, without writing, whether a new driver can join the study that the space file names.

    Args:
        data_digest: None where the data has not been read yet.
    Raises:
        ConfigError: the database does not answer, or its study of this name is another experiment's.
    """
    if experiment.search.storage is not None:
        place = Database(experiment.search.storage, experiment.name, driver="", folder="", data_digest=data_digest)
        check_study(place, identity(experiment, served.tasks, data_digest))


class Search:
    """One experiment's search over one study.

    Args:
        experiment: what the space file says.
        served: the tasks that are learned, and on what.
        place: where the study is; what it holds already is where the search goes on.
        past: trial number → epochs measured so far, also by drivers before this one.
        seconds_left: wall time that is left; None for no limit.
        earlier: what is taken over from an earlier search; asked before the first trial.
    """

    def __init__(
        self,
        experiment: Experiment,
        served: Served,
        place: StudyPlace,
        *,
        past: Callable[[int], list[EpochMetrics]],
        seconds_left: Clock | None = None,
        earlier: Callable[[], Earlier | None] = lambda: None,
    ) -> None:
        self._experiment, self._served, self._tasks = experiment, served, served.tasks
        self._budget, self._seconds_left, self._earlier = experiment.budget, seconds_left, earlier
        sampler = build_sampler(experiment.search.sampler, experiment.space, experiment.search.seed, self._admits)
        self._most_trials = (
            min(self._budget.trials, len(sampler)) if isinstance(sampler, GridSampler) else self._budget.trials
        )
        pruner = build_pruner(experiment.search.pruner, self._budget.epochs)
        data_digest = place.data_digest if isinstance(place, Database) else None
        agreed = identity(experiment, served.tasks, data_digest)
        self._file = OpenStudy(place, experiment.name, sampler, pruner, agreed)
        self._study = self._file.study
        self._history: dict[int, list[EpochMetrics]] = {}
        self._running: set[int] = set()
        self._past = past
        self._ended_baselines: dict[str, FrozenTrial] | None = None
        self._unfinished = deque(self._take_up())
        self._last_end = self._file.moment
        self.taken_over: dict[int, str] = {}
        """Trials that were another driver's, which is gone, and the folders that they were in."""

    # What to start -------------------------------------------------------------------------------------

    def next(self) -> TrialOrder | None:
        """A trial to start now. None while there is nothing to start, which may change unless `finished`.

        Raises:
            MtlsearchError: a single-task baseline failed, so Δ has no reference.
        """
        trial = self._unfinished.popleft() if self._unfinished else self._file.transact(self._start)
        if trial is None:
            trial = self._take_over()
        if trial is None:
            return None
        self._running.add(trial.number)
        self._history.setdefault(trial.number, [])
        return self._order(trial)

    def _take_over(self) -> FrozenTrial | None:
        """A trial that another driver has left, of which its folder may have epochs, if this was its driver before."""
        while self._file.left_behind() and self._waits_for_others:
            taken = self._file.transact(self._file.take_over)
            if taken is None:
                return None
            trial, folder = taken
            self.taken_over[trial.number] = folder
            if self._goes_on(trial):
                return trial
        return None

    def _start(self) -> FrozenTrial | None:
        """Decides by what the study holds, in which other drivers may have started trials since."""
        if (task := self._next_baseline()) is not None:
            return self._file.create_baseline(task)
        if (again := self._next_final()) is not None:
            return self._file.create_final(again)
        if self._baselines_running() or not self._may_start():
            return None
        self._check_baselines()
        return self._ask()

    @property
    def finished(self) -> bool:
        """Whether this driver has nothing that runs and nothing to start any more. Other drivers' trials may run, if
        those drivers live."""
        if self._running or self._unfinished or self._next_baseline() is not None or self._may_start():
            return False
        if self._next_final() is not None:
            return False
        return not self._waits_for_others or self._file.others_live(self._last_end)

    def rehearse(self, count: int) -> list[TrialConfig]:
        """Asks for the first trials without running any. The study is of no other use after that."""
        while (task := self._next_baseline()) is not None:
            self._file.transact(partial(self._file.create_baseline, task))
        earlier = self._earlier()
        if earlier is not None:  # what comes after these may depend on its history
            count = min(count, len(self._experiment.search.enqueue) + len(earlier.best))
        asked = (self._file.transact(self._ask) for _ in range(min(count, self._most_trials)))
        return [self._experiment.space.config(trial.params) for trial in asked]

    # What becomes of it --------------------------------------------------------------------------------

    def report(self, number: int, metrics: EpochMetrics) -> Decision:
        """Takes an epoch's metrics; a decision that stops the trial is in the study already.

        An epoch that was reported before (it was trained again after a crash) changes nothing.
        """
        trial, history = self._file.trial(number), self._history[number]
        if history and metrics.epoch <= history[-1].epoch:
            return CONTINUE
        history.append(metrics)
        if metrics.epoch in trial.intermediate_values:
            return CONTINUE

        def take() -> Decision:
            decision = self._decide(trial, history)
            if decision.stops:
                self._tell(trial, decision, history)
            return decision

        decision = self._file.transact(take)
        if decision.stops:
            self._forget(number)
        return decision

    def fail(self, number: int, reason: str) -> None:
        """Ends a trial that cannot go on; the search goes on without it."""
        trial, history = self._file.trial(number), self._history.get(number, [])
        self._file.transact(lambda: self._tell(trial, Decision("FAIL", reason), history))
        self._forget(number)

    def keep_test(self, number: int, scores: Scores) -> None:
        """A trial that has ended was scored on the test split: for the final rankings of other drivers."""
        self._file.keep_test(number, scores)

    def _forget(self, number: int) -> None:
        """A trial that has ended is in the study, and its epochs are in its folder."""
        self._running.discard(number)
        self._last_end = self._file.moment
        self._history.pop(number, None)

    # What is known -------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return [self._file.record(trial) for trial in self._study.all_trials() if is_own(trial)]

    def record(self, number: int) -> TrialRecord:
        """One trial."""
        return self._file.record(self._file.trial(number))

    def best(self) -> TrialRecord | None:
        """The best complete trial, baselines not counted."""
        complete = [record for record in self.records() if record.state == "COMPLETE" and record.role == "trial"]
        return max(complete, key=lambda record: (record.value, -record.number), default=None)

    @property
    def num_trials(self) -> int:
        """Most trials, baselines not counted."""
        return self._most_trials

    @property
    def num_baselines(self) -> int:
        """Single-task baselines that the objective needs."""
        return len(self._tasks) if self._uses_baselines else 0

    @property
    def num_finals(self) -> int:
        """Final trials; at most so many until the search has ended."""
        final = self._experiment.final
        if final is None or self._search_ended():
            return len(self._finals) if final is not None else 0
        return final.seeds * (len(self._tasks) + min(final.top_k, self._most_trials))

    # Inside --------------------------------------------------------------------------------------------

    def _decide(self, trial: FrozenTrial, history: Sequence[EpochMetrics]) -> Decision:
        last, apart = history[-1], is_apart(trial)
        if not math.isfinite(last.objective):
            return Decision("FAIL", f"the objective is {last.objective} at epoch {last.epoch}")
        if not apart:  # a baseline's objective is on another scale; a final trial is no part of the search
            self._file.report(trial, last.epoch, last.objective)
        if last.epoch >= self._budget.epochs:  # a trial that trained to the end is complete, whatever a pruner says
            return Decision("COMPLETE", f"trained all {self._budget.epochs} epochs")
        best = max(history, key=lambda metrics: metrics.objective)  # the earliest of equals
        if self._budget.patience is not None and last.epoch - best.epoch >= self._budget.patience:
            return Decision("COMPLETE", f"no better than at epoch {best.epoch} for {self._budget.patience} epochs")
        if apart:
            return CONTINUE
        if self._time_is_up:
            return Decision("PRUNED", f"the wall budget was spent at epoch {last.epoch}")
        if self._file.should_prune(trial):
            kind = self._experiment.search.pruner.kind
            return Decision("PRUNED", f"{kind}: {last.objective:.5g} at epoch {last.epoch}")
        return CONTINUE

    def _tell(self, trial: FrozenTrial, decision: Decision, history: Sequence[EpochMetrics]) -> None:
        assert decision.state is not None
        value = None
        if decision.state == "COMPLETE":
            best = max(history, key=lambda metrics: metrics.objective)
            value = best.objective
            if (task := task_of(trial)) is not None:
                self._file.note(trial, SCORE, -value if self._main_metric(task) in LOWER_IS_BETTER else value)
                if task in best.train_loss:
                    self._file.note(trial, TRAIN_LOSS, best.train_loss[task])
                value = 0.0  # its gain over itself
        self._file.tell(trial, TrialState[decision.state], value, decision.reason)

    def _take_up(self) -> Iterator[FrozenTrial]:
        """Trials that ran when the last driver ended."""
        for trial in self._file.all_trials():
            if trial.state == TrialState.RUNNING and self._file.is_mine(trial) and self._goes_on(trial):
                yield trial

    def _goes_on(self, trial: FrozenTrial) -> bool:
        """Whether a trial that was begun is still to be trained, after deciding on the epochs that the study did not
        hear of."""
        heard = trial.last_step or 0
        epochs = self._past(trial.number)
        self._history[trial.number] = [metrics for metrics in epochs if metrics.epoch <= heard]
        unheard = (metrics for metrics in epochs if metrics.epoch > heard)
        return not any(self.report(trial.number, metrics).stops for metrics in unheard)

    @property
    def _uses_baselines(self) -> bool:
        return self._experiment.objective.metric == "delta"

    def _baselines(self) -> dict[str, FrozenTrial]:
        """Task → its baseline, for those made so far."""
        if self._ended_baselines is not None:
            return self._ended_baselines
        made = {t.user_attrs[BASELINE]: t for t in self._file.apart() if BASELINE in t.user_attrs}
        if len(made) == len(self._tasks) and all(trial.state.is_finished() for trial in made.values()):
            self._ended_baselines = made
        return made

    def _next_baseline(self) -> str | None:
        if not self._uses_baselines:
            return None
        made = self._baselines()
        return next((task.name for task in self._tasks if task.name not in made), None)

    def _baselines_running(self) -> bool:
        return self._uses_baselines and any(not trial.state.is_finished() for trial in self._baselines().values())

    @property
    def _num_finals(self) -> int:
        """Made so far."""
        return sum(FINAL in trial.user_attrs for trial in self._file.apart())

    @property
    def _time_is_up(self) -> bool:
        return self._seconds_left is not None and self._seconds_left() <= 0

    @property
    def _waits_for_others(self) -> bool:
        """Whether trials that another driver leaves concern this one: the wall budget does not end final trials."""
        return bool(self._num_finals) or not self._time_is_up

    def _may_start(self) -> bool:
        if self._num_finals or self._time_is_up:
            return False
        return self._study.tally().num_own < self._most_trials

    def _search_ended(self) -> bool:
        """Whether all is over but the final trials, with every driver."""
        if self._num_finals:
            return True
        if self._unfinished or self._next_baseline() or self._baselines_running() or self._may_start():
            return False
        return not self._study.tally().states[TrialState.RUNNING]

    def _next_final(self) -> Again | None:
        if self._experiment.final is None or not self._search_ended() or self._num_finals == len(self._finals):
            return None
        return self._finals[self._num_finals]

    @cached_property
    def _finals(self) -> list[Again]:
        """All final trials, in their order; asked when the search has ended."""
        assert self._experiment.final is not None
        own = [trial for trial in self._study.get_trials(deepcopy=False) if is_own(trial)]
        return plan_finals(self._experiment.final, self._tasks, own)

    def _admits(self, config: TrialConfig) -> bool:
        return admits(self._experiment, self._served, config)

    def _ask(self) -> FrozenTrial:
        if not self._study.tally().num_trials:
            self._enqueue()
        trial = self._file.ask()
        self._experiment.space.suggest(Asked(trial))
        return self._file.trial(trial.number)

    def _enqueue(self) -> None:
        """What is known before the first trial: first the history, then what is to be tried first."""
        earlier = self._earlier()
        if earlier is not None:
            ranges = distributions(self._experiment.space)
            for known in earlier.history:
                self._file.add_imported(earlier.folder, known, ranges)
        for fixed in self._experiment.search.enqueue:
            self._study.enqueue_trial(self._experiment.space.assign(fixed))
        for best in earlier.best if earlier is not None else ():
            self._study.enqueue_trial(dict(best.params))

    def _order(self, trial: FrozenTrial) -> TrialOrder:
        task, again, config, seed = task_of(trial), again_of(trial), self._config(trial), self._experiment.search.seed
        return TrialOrder(
            number=trial.number,
            role=role_of(trial),
            config=config,
            seed=derive_seed(seed, trial.number) if again is None else derive_seed(seed, "final", again.repeat),
            epochs=self._budget.epochs,
            tasks=(task,) if task else tuple(each.name for each in self._tasks),
            metric=f"{task}/{self._main_metric(task)}" if task else self._experiment.objective.metric,
            reference=self._reference() if self._uses_baselines and not task else {},
            reference_losses=self._reference_losses if self._uses_baselines and not task else {},
            candidate=again.candidate if again is not None else None,
            repeat=again.repeat if again is not None else 0,
        )

    def _config(self, trial: FrozenTrial) -> TrialConfig:
        if task_of(trial) is not None:
            return baseline_config(self._experiment)
        again = again_of(trial)
        searched = trial if again is None or again.candidate is None else self._file.trial(again.candidate)
        return self._experiment.space.config(searched.params)

    def _main_metric(self, task: str) -> str:
        return next(each.main_metric for each in self._tasks if each.name == task)

    def _check_baselines(self) -> None:
        for task, trial in self._baselines().items():
            if SCORE not in trial.user_attrs:
                raise MtlsearchError(
                    f"objective delta needs every single-task baseline, but that of {task} (trial {trial.number}) "
                    f"failed: {trial.user_attrs.get(OUTCOME)}. Change objective.baseline, or write `objective: mean`."
                )

    @cached_property
    def _reference_losses(self) -> dict[str, float]:
        """Task → its baseline's training loss in the epoch that was its best; asked when all baselines have ended."""
        made = self._baselines().items()
        return {task: trial.user_attrs[TRAIN_LOSS] for task, trial in made if TRAIN_LOSS in trial.user_attrs}

    def _reference(self) -> dict[str, float]:
        """Task → its baseline's main metric."""
        return {task: trial.user_attrs[SCORE] for task, trial in self._baselines().items()}

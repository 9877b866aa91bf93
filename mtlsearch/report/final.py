"""The final ranking: the best trials and the single-task baselines, trained again on fresh seeds, scored on test.

All candidates and baselines of a repeat share its seed, so that they are compared in pairs. What is compared with
the best candidate is Δ of each seed, or the objective where that is not Δ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from mtlsearch import objective
from mtlsearch.config import Task
from mtlsearch.errors import ConfigError, TrialFailed, Where
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import Scores, TrialRecord
from mtlsearch.report.statistics import SIGNIFICANCE, Interval, holm, interval, paired_p_value


@dataclass(frozen=True)
class FinalRow:
    """One candidate over its fresh seeds, on test."""

    trial: int
    """The search's trial whose configuration was trained again."""
    scores: Mapping[str, Interval]
    """Task → its main metric, in its own unit. A task whose metric test leaves undefined is missing."""
    delta: Interval | None
    """Mean relative gain over the single-task baselines of the same seed; None where no seed has them all."""
    p_value: float | None
    """Paired t-test against the best row, corrected after Holm; None for the best, and where there are no two pairs."""
    tied: bool
    """Whether the test finds no difference to the best row at 5 %."""
    gain: Mapping[str, Interval]
    """Task → relative gain over its baseline of the same seed."""
    negative_transfer: tuple[str, ...]
    """Tasks whose gain's interval is wholly below 0: learning them together with the others hurt them."""
    objective: Interval | None
    """What the rows are ranked by, higher is better: Δ, or the objective's own score on test. None where test leaves it
    undefined."""


@dataclass(frozen=True)
class FinalRanking:
    """All candidates, best first."""

    rows: tuple[FinalRow, ...]
    baselines: Mapping[str, Interval]
    """Task → main metric of its single-task baseline, on test."""
    num_seeds: int
    """Seeds that were asked for."""
    complete: bool
    """Whether all final trials have ended and are scored."""
    metric: str
    """What the rows are ranked by: `delta`, `mean` or `task/metric`."""
    metrics: Mapping[str, str]
    """Task → the name of its main metric."""
    notes: tuple[str, ...]
    """What is missing and why: failed trials, a seed alone, an undefined metric."""

    def json(self) -> str:
        """Everything, for final.json."""
        return json.dumps(asdict(self), indent=1)


def read_final(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> FinalRanking | None:
    """The ranking as far as final trials have been scored; None where none has.

    Raises:
        ConfigError: a file of the experiment is damaged.
    """
    finals = [record for record in records if record.role == "final"]
    tests = (folder.trial(record.number).read_test() if record.here else record.test for record in finals)
    tested = [(record, test) for record, test in zip(finals, tests, strict=True) if test is not None]
    if not tested:
        return None
    plan = folder.read_plan()
    wanted: Mapping[str, int] | None = plan.get("final")
    if wanted is None:
        return None
    tasks = tuple(Task.model_validate_json(json.dumps(task)) for task in plan["tasks"])
    for record, test in tested:
        if record.here:
            _check_scored(tasks, record, test, folder)
    num_candidates = min(wanted["top_k"], sum(r.role == "trial" and r.state == "COMPLETE" for r in records))
    ended = len(tested) + sum(record.state == "FAIL" for record in finals)
    return _Ranked(
        tasks,
        str(plan["objective"]),
        tests={(r.candidate, r.repeat): test for r, test in tested if r.candidate is not None},
        baselines={(r.task, r.repeat): test for r, test in tested if r.task is not None},
    ).ranking(wanted["seeds"], ended == wanted["seeds"] * (num_candidates + len(tasks)), _failures(finals))


def _check_scored(tasks: Sequence[Task], record: TrialRecord, test: Scores, folder: ExperimentFolder) -> None:
    learnt = [task for task in tasks if record.task in (None, task.name)]
    if any(task.main_metric not in test.get(task.name, {}) for task in learnt):
        raise ConfigError(
            "the file must be the trial's test scores, of all its tasks, but is damaged. Restore it from a copy.",
            Where(folder.trial(record.number).test),
        )


def _failures(finals: Sequence[TrialRecord]) -> list[str]:
    return [
        f"trial {record.number} ({_who(record)}, seed {record.repeat + 1}) failed and is left out: {record.reason}"
        for record in finals
        if record.state == "FAIL"
    ]


def _who(record: TrialRecord) -> str:
    return f"baseline {record.task}" if record.candidate is None else f"trial {record.candidate} again"


class _Ranked:
    """The arithmetic, from test scores by candidate or task, and repeat."""

    def __init__(
        self,
        tasks: Sequence[Task],
        metric: str,
        *,
        tests: Mapping[tuple[int, int], Scores],
        baselines: Mapping[tuple[str, int], Scores],
    ) -> None:
        self._metric, self._tests, self._baselines = metric, tests, baselines
        everything = [*tests.values(), *baselines.values()]
        self._all_tasks = tasks
        self._tasks = [task for task in tasks if all(_is_defined(task, scores) for scores in everything)]
        self._compared = [task for task in self._tasks if 0.0 not in (values := self._baseline(task)) and values]

    def ranking(self, num_seeds: int, complete: bool, failures: Sequence[str]) -> FinalRanking:
        """The rows, each against the best of them."""
        objectives = {trial: self._by_seed(self._objective, trial) for trial, _ in self._tests}
        order = sorted(objectives, key=lambda trial: (-_mean([*objectives[trial].values()]), trial))
        p_values = _against_best([objectives[trial] for trial in order])
        return FinalRanking(
            rows=tuple(self._row(trial, objectives[trial], p_values[rank]) for rank, trial in enumerate(order)),
            baselines={task.name: interval(values) for task in self._tasks if (values := self._baseline(task))},
            num_seeds=num_seeds,
            complete=complete,
            metric=self._metric,
            metrics={task.name: task.main_metric for task in self._tasks},
            notes=(*self._notes(num_seeds), *failures),
        )

    def _row(self, trial: int, objectives: Mapping[int, float], p_value: float | None) -> FinalRow:
        gains = [self._gains(trial, repeat) for repeat in self._repeats(trial)]
        gain = {
            task.name: interval(values)
            for task in self._compared
            if (values := [each[task.name] for each in gains if task.name in each])
        }
        scores = [self._tests[trial, repeat] for repeat in self._repeats(trial)]
        return FinalRow(
            trial=trial,
            scores={task.name: interval([_main(task, each) for each in scores]) for task in self._tasks},
            delta=_interval([*self._by_seed(self._delta, trial).values()]),
            p_value=p_value,
            tied=p_value is not None and p_value >= SIGNIFICANCE,
            gain=gain,
            negative_transfer=tuple(task for task, each in gain.items() if each.below_zero),
            objective=_interval([*objectives.values()]),
        )

    def _notes(self, num_seeds: int) -> Iterator[str]:
        if num_seeds < 2:
            yield "one seed has no spread: there are no intervals and no tests; `final.seeds` should be 5 or more"
        if undefined := [task.name for task in self._all_tasks if task not in self._tasks]:
            yield f"left out, since test leaves the main metric undefined: {', '.join(undefined)}"
        if missing := [task.name for task in self._tasks if task not in self._compared]:
            yield f"not in Δ, since the single-task baseline is missing or its metric is 0: {', '.join(missing)}"

    def _repeats(self, trial: int) -> list[int]:
        return sorted(repeat for candidate, repeat in self._tests if candidate == trial)

    def _by_seed(self, value: Callable[[int, int], float | None], trial: int) -> dict[int, float]:
        """Repeat → value, for the repeats that have one."""
        found = {repeat: value(trial, repeat) for repeat in self._repeats(trial)}
        return {repeat: each for repeat, each in found.items() if each is not None}

    def _baseline(self, task: Task) -> list[float]:
        """The baseline's main metric, one a seed."""
        return [_main(task, scores) for (name, _), scores in sorted(self._baselines.items()) if name == task.name]

    def _gains(self, trial: int, repeat: int) -> dict[str, float]:
        """Task → relative gain, for the tasks that have a baseline of this seed."""
        tasks = [task for task in self._compared if (task.name, repeat) in self._baselines]
        reference = {task.name: _main(task, self._baselines[task.name, repeat]) for task in tasks}
        return objective.gains(tasks, self._tests[trial, repeat], reference)

    def _delta(self, trial: int, repeat: int) -> float | None:
        gains = self._gains(trial, repeat)
        return fmean(gains.values()) if gains and len(gains) == len(self._compared) else None

    def _objective(self, trial: int, repeat: int) -> float | None:
        if self._metric == "delta":
            return self._delta(trial, repeat)
        scores = self._tests[trial, repeat]
        if self._metric != "mean":
            return _scored(self._metric, self._all_tasks, scores)
        means = [_scored("mean", [task], scores) for task in self._all_tasks]
        defined = [value for value in means if value is not None]
        return fmean(defined) if defined else None


def _against_best(objectives: Sequence[Mapping[int, float]]) -> list[float | None]:
    """Corrected p-values of the rows, best first, against the first of them, in pairs by seed."""
    p_values: list[float | None] = []
    for values in objectives:
        both = sorted(values.keys() & objectives[0].keys())
        p_values.append(paired_p_value([values[each] for each in both], [objectives[0][each] for each in both]))
    tested = [rank for rank, p_value in enumerate(p_values) if rank > 0 and p_value is not None]
    corrected = dict(zip(tested, holm([p_values[rank] or 0.0 for rank in tested]), strict=True))
    return [corrected.get(rank) for rank in range(len(objectives))]


def _scored(metric: str, tasks: Sequence[Task], scores: Scores) -> float | None:
    """The objective on test; None where test leaves it undefined."""
    try:
        return objective.score(metric, tasks, scores, {})
    except TrialFailed:
        return None


def _is_defined(task: Task, scores: Scores) -> bool:
    """Whether these scores, if they are of this task at all, have its main metric."""
    return task.name not in scores or scores[task.name][task.main_metric] is not None


def _main(task: Task, scores: Scores) -> float:
    value = scores[task.name][task.main_metric]
    assert value is not None, "tasks whose metric is undefined are left out before"
    return value


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("-inf")


def _interval(values: Sequence[float]) -> Interval | None:
    return interval(values) if values else None

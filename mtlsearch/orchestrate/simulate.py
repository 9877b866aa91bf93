"""What other pruners would have made of a search that was run: its learning curves, replayed.

Every pruner is given the same configurations in the same order. Where it stops a trial, the rest of the curve is
saved; where it would have gone on beyond what was recorded, because the search that ran had stopped the trial, nobody
knows what would have come. Such trials are censored: they end there, and are counted.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args

from mtlsearch.config import Served, Task
from mtlsearch.config.search import PatientConfig, PrunerConfig, RandomConfig, ThresholdConfig
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.session import Session
from mtlsearch.orchestrate.simulated_cluster import Curve, SimulatedClock, TuneCalls, simulate
from mtlsearch.records import EpochReport, ModelRecord, TrialOrder, TrialRecord
from mtlsearch.search import Earlier, read_records, study_of
from mtlsearch.space import Experiment, read_experiment

CENSORED = "the recording ends"
"""The reason of a trial that a pruner let go on beyond what is known."""


NO_MODEL = ModelRecord(num_parameters=0, multiply_adds=0, epoch=0)
"""Of a trial that an earlier version recorded without."""


@dataclass(frozen=True)
class Outcome:
    """What one pruner makes of the recording. Baselines count in `seconds` alone."""

    pruner: str
    """As `--pruner` takes it."""
    is_own: bool
    """Whether it is the experiment's."""
    best: float | None
    """Of the complete trials; None where none is."""
    best_trial: int | None
    """Its number in the recording."""
    loss: float | None
    """How much better the best complete trial of the recording is."""
    epochs: int
    seconds: float
    """Until the last trial ends, with so many side by side."""
    complete: int
    pruned: int
    failed: int
    censored: int


@dataclass(frozen=True)
class Comparison:
    """Pruners side by side, and what has to be known to read it."""

    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]

    def csv(self) -> str:
        """A header line and a line a pruner."""
        sink = io.StringIO()
        writer = csv.DictWriter(sink, [each.name for each in fields(Outcome)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(outcome) for outcome in self.outcomes)
        return sink.getvalue()

    def json(self) -> str:
        """The outcomes and the notes."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class Recording:
    """A search's trials, in the order in which they were proposed."""

    experiment: Experiment
    served: Served
    trials: tuple[TrialRecord, ...]
    curves: Mapping[int, Curve]
    """Trial, or baseline, by number → what it reported."""
    baselines: Mapping[str, int]
    """Task → its baseline's number."""

    @property
    def best(self) -> float | None:
        """Of the trials that trained to their end."""
        complete = (each for each in self.trials if each.state == "COMPLETE")
        return max((each.value for each in complete if each.value is not None), default=None)

    def recorded(self, number: int) -> TrialRecord:
        """The trial that a replay's trial of this number is; baselines come first there."""
        return self.trials[number - len(self.baselines)]

    def curve(self, order: TrialOrder) -> Curve:
        """What a replay's trial reports."""
        is_baseline = order.role == "baseline"
        return self.curves[self.baselines[order.tasks[0]] if is_baseline else self.recorded(order.number).number]

    @property
    def num_stopped(self) -> int:
        """Trials that the search stopped or left before their end."""
        return sum(each.state in ("PRUNED", "RUNNING") for each in self.trials)


def read_recording(folder: ExperimentFolder) -> Recording:
    """The curves of an experiment, finished or not.

    Raises:
        ConfigError: no trial has measured an epoch, or the folder is damaged.
    """
    plan = folder.read_plan()
    experiment = read_experiment(folder.space, tuple(plan["overrides"]))
    tasks = tuple(Task.model_validate_json(json.dumps(task)) for task in plan["tasks"])
    records = [record for record in read_records(study_of(folder)) if record.role != "final"]
    curves = {record.number: _curve(folder, record) for record in records}
    trials = tuple(record for record in records if record.role == "trial")
    if not any(curves[record.number].reports for record in trials):
        raise ConfigError(
            f"{folder.path} must hold learning curves, but no trial has measured an epoch yet. Replay it later."
        )
    baselines = {record.task: record.number for record in records if record.task is not None}
    return Recording(experiment, Served(tasks, experiment.data.has_steps), trials, curves, baselines)


def read_pruners(folder: ExperimentFolder, texts: Sequence[str]) -> list[PrunerConfig]:
    """What `--pruner` says: a kind, or YAML with its options.

    Raises:
        ConfigError: a pruner does not exist, or an option of it.
    """
    overrides = tuple(folder.read_plan()["overrides"])
    pruners = []
    for text in texts:
        try:
            pruner = read_experiment(folder.space, (*overrides, f"search.pruner={text}")).search.pruner
        except ConfigError as error:
            raise ConfigError(f"--pruner {text}: {error.message}") from error
        pruners.append(pruner)
    return pruners


def every_pruner(own: PrunerConfig) -> list[PrunerConfig]:
    """The experiment's own, then every kind with its default settings; `threshold` has none."""
    union, *_ = get_args(PrunerConfig)
    kinds = [kind for kind in get_args(union) if kind is not ThresholdConfig]
    return [own, *(pruner for pruner in (kind() for kind in kinds) if pruner != own)]


def compare(recording: Recording, pruners: Sequence[PrunerConfig], workers: int) -> Comparison:
    """Replays the recording under each pruner.

    Args:
        workers: trials side by side.
    """
    assert workers > 0
    memory = Path("/dev/shm")  # nothing is kept, so nothing need wait for a disk
    with tempfile.TemporaryDirectory(prefix="mtlsearch-simulate-", dir=memory if memory.is_dir() else None) as scratch:
        outcomes = [
            _outcome(recording, pruner, *replay(recording, pruner, workers, Path(scratch) / str(i)))
            for i, pruner in enumerate(pruners)
        ]
    return Comparison(tuple(outcomes), tuple(_notes(recording, outcomes, workers)))


def _notes(recording: Recording, outcomes: Sequence[Outcome], workers: int) -> Iterator[str]:
    side = "one after the other" if workers == 1 else f"{workers} side by side"
    best = "none complete" if recording.best is None else f"the best reached {recording.best:.5g}"
    yield f"{len(recording.trials)} trials recorded, {best}; replayed {side}, in the order in which they were proposed"
    if any(outcome.censored for outcome in outcomes):
        yield (
            f"{recording.num_stopped} recorded trials end where the search stopped or left them. Those that a pruner "
            "let go on are censored: what would have come is not known, and may have been the best. For a fair "
            "comparison, record a search with `pruner: none`"
        )
    if recording.experiment.budget.wall is not None:
        yield "the wall budget is left out: what it cut off is not known"
    if recording.experiment.search.warm_start is not None:
        yield "what the search took over from an earlier one is left out"


def replay(recording: Recording, pruner: PrunerConfig, workers: int, place: Path) -> tuple[list[TrialRecord], float]:
    """Searches again, in a new folder, with the recorded trials as what is to be tried first.

    The wall budget is left out, since what it cut off is not known; what an earlier search gave, too.

    Returns:
        The trials, and the simulated seconds until the last one ended.
    """
    before = recording.experiment
    search = before.search.model_copy(
        update={"pruner": pruner, "sampler": RandomConfig(), "enqueue": (), "warm_start": None, "storage": None}
    )
    budget = before.budget.model_copy(update={"trials": len(recording.trials), "wall": None})
    experiment = replace(before, search=search, budget=budget, final=None)
    folder = ExperimentFolder.create(place, before.text, {"overrides": []}, "{}")
    clock = SimulatedClock()
    first = Earlier(folder.path, best=recording.trials, history=(), differences=())
    with folder.driven():
        session = Session(experiment, recording.served, folder, [], first, clock)
        simulate(TuneCalls(session, workers), workers, clock, recording.curve)
    return read_records(folder.journal), clock.now


def _outcome(recording: Recording, pruner: PrunerConfig, records: Sequence[TrialRecord], seconds: float) -> Outcome:
    trials = [record for record in records if record.role == "trial"]
    complete = [record for record in trials if record.state == "COMPLETE" and record.value is not None]
    best = max(complete, key=lambda record: (record.value, -record.number), default=None)
    reached, known = best.value if best is not None else None, recording.best
    censored = sum(record.state == "FAIL" and record.reason == CENSORED for record in trials)
    return Outcome(
        pruner=described(pruner),
        is_own=pruner == recording.experiment.search.pruner,
        best=reached,
        best_trial=recording.recorded(best.number).number if best is not None else None,
        loss=known - reached if known is not None and reached is not None else None,
        epochs=sum(len(record.intermediate) for record in trials),
        seconds=seconds,
        complete=len(complete),
        pruned=sum(record.state == "PRUNED" for record in trials),
        failed=sum(record.state == "FAIL" for record in trials) - censored,
        censored=censored,
    )


def described(pruner: PrunerConfig) -> str:
    """Its kind, and the options that are not its defaults: `median`, `{kind: median, n_startup_trials: 3}`."""
    options = pruner.model_dump(mode="json", exclude_defaults=True)
    if isinstance(pruner, PatientConfig) and pruner.wrapped is not None:
        options["wrapped"] = described(pruner.wrapped)
    options.pop("kind", None)
    shown = "".join(f", {name}: {value}" for name, value in options.items())
    return f"{{kind: {pruner.kind}{shown}}}" if shown else pruner.kind


def _curve(folder: ExperimentFolder, record: TrialRecord) -> Curve:
    files = folder.trial(record.number)
    model = ModelRecord.model_validate_json(files.model.read_bytes()) if files.model.exists() else NO_MODEL
    reports = [EpochReport(metrics=epoch, model=model) for epoch in files.epochs()]
    return Curve(reports, record.reason if record.state == "FAIL" else CENSORED)

"""What a driver keeps of its trials: every epoch once, in the folder and in the study, whenever it was killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest_orchestrate import study

from mtlsearch.folder import ExperimentFolder
from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.orchestrate.session import MOST_STARTS, Session
from mtlsearch.records import CONTINUE, Decision, EpochMetrics, EpochReport, ModelRecord, TrialOrder
from mtlsearch.space import read_experiment
from mtlsearch.tracking import Tracker

WriteSpace = Callable[..., Path]
OpenSession = Callable[..., Session]
TASKS = ("cancelled", "dep_late15", "arr_delay", "air_time")


class Listener(Tracker):
    """Notes what it is told of epochs."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int]] = []

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """One more."""
        self.epochs.append((order.number, metrics.epoch))


@pytest.fixture
def listener() -> Listener:
    """Of the sessions that are opened."""
    return Listener()


@pytest.fixture
def opened(space_file: WriteSpace, tmp_path: Path, listener: Listener) -> OpenSession:
    """`opened()` is a driver's session over the same folder, as at its start and after every crash."""
    space = space_file(objective="mean", budget="{trials: 2, epochs: 3}", search="{sampler: random, pruner: none}")

    def open_session(out: Path = tmp_path / "out", *changes: str) -> Session:
        plan = make_plan(read_experiment(space, changes))
        if not out.exists():
            ExperimentFolder.create(out, plan.experiment.text, plan.to_json(), "{}")
        return Session(plan.experiment, plan.served, ExperimentFolder.open(out), [listener])

    return open_session


def epoch(number: int, objective: float | None = None) -> EpochReport:
    """What a trial reports."""
    metrics = EpochMetrics(
        epoch=number,
        objective=number / 10 if objective is None else objective,
        validation={task: {"auroc": 0.75} for task in TASKS},
        train_loss=dict.fromkeys(TASKS, 0.5),
        task_weights=dict.fromkeys(TASKS, 1.0),
        learning_rate=1e-3,
        grad_norm=0.5,
        seconds=2.0,
        samples_per_second=1e6,
    )
    return EpochReport(metrics=metrics, model=ModelRecord(num_parameters=9, multiply_adds=8, epoch=number))


def begun(session: Session) -> int:
    """The number of the trial that is handed out."""
    order = session.next()
    assert order is not None
    return order.number


def known(session: Session, number: int) -> tuple[list[int], list[int], int]:
    """Epochs in metrics.jsonl, in the study, and the one that model.json is of."""
    trial = session.folder.trial(number)
    record = ModelRecord.model_validate_json(trial.model.read_text())
    values = study(session.folder)[number].intermediate_values
    assert [values[each.epoch] for each in trial.epochs() if each.epoch in values] == list(values.values())
    return [each.epoch for each in trial.epochs()], list(values), record.epoch


def test_an_epoch_is_in_the_folder_and_in_the_study_when_it_was_reported(opened: OpenSession) -> None:
    session = opened()
    number = begun(session)
    assert session.report(number, epoch(1)) == CONTINUE
    assert known(session, number) == ([1], [1], 1)
    session.report(number, epoch(2))
    assert known(session, number) == ([1, 2], [1, 2], 2)


def test_an_epoch_that_is_told_again_changes_nothing(opened: OpenSession, listener: Listener) -> None:
    """As a trial does that was taken up again, in this driver or in the next."""
    session = opened()
    number = begun(session)
    session.report(number, epoch(1))
    session.report(number, epoch(2))
    before = {path: path.read_bytes() for path in session.folder.path.rglob("*") if path.is_file()}
    for again in (2, 1, 2):
        assert session.report(number, epoch(again, objective=99.0)) == CONTINUE
    assert {path: path.read_bytes() for path in session.folder.path.rglob("*") if path.is_file()} == before
    assert listener.epochs == [(number, 1), (number, 2)]
    session.report(number, epoch(3))
    assert known(session, number) == ([1, 2, 3], [1, 2, 3], 3)


def test_the_next_driver_hands_the_trial_out_again_and_hears_its_last_epoch_again(
    opened: OpenSession, listener: Listener
) -> None:
    first = opened()
    number = begun(first)
    first.report(number, epoch(1))
    second = opened()
    assert begun(second) == number
    assert second.report(number, epoch(1)) == CONTINUE
    assert second.report(number, epoch(2)) == CONTINUE
    assert second.report(number, epoch(3)).state == "COMPLETE"
    assert known(second, number) == ([1, 2, 3], [1, 2, 3], 3)
    assert listener.epochs == [(number, 1), (number, 2), (number, 3)]


class KilledError(Exception):
    """Stands for kill -9 of the driver."""


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize(
    "moment",
    ["before the model", "before the line", "in the line", "before the study", "before the mirrors"],
)
def test_a_driver_that_is_killed_anywhere_in_a_report_loses_and_doubles_nothing(
    opened: OpenSession, listener: Listener, monkeypatch: pytest.MonkeyPatch, moment: str, at: int
) -> None:
    session = opened()
    number = begun(session)
    for each in range(1, at):
        session.report(number, epoch(each))
    killed = {
        "before the model": "mtlsearch.folder.TrialFolder.write_model",
        "before the line": "mtlsearch.folder.TrialFolder.append",
        "before the study": "mtlsearch.search.Search.report",
        "before the mirrors": f"{__name__}.Listener.epoch_finished",
    }

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        if moment == "in the line":
            patch.setattr(killed["before the line"], half_a_line)
        else:
            patch.setattr(killed[moment], die)
        with pytest.raises(KilledError):
            session.report(number, epoch(at))
    second = opened()
    is_over = at == 3 and moment in ("before the study", "before the mirrors")  # its last line is there
    assert (begun(second) == number) is not is_over
    if not is_over:
        for each in range(at, 4):  # its checkpoint is of this epoch
            second.report(number, epoch(each))
    assert known(second, number) == ([1, 2, 3], [1, 2, 3], 3)
    assert study(second.folder)[number].state.name == "COMPLETE"


def half_a_line(trial: object, metrics: EpochMetrics) -> None:
    """What a process leaves that is killed while it writes."""
    with trial.metrics.open("a") as file:  # type: ignore[attr-defined]
        file.write(metrics.model_dump_json()[:40])
    raise KilledError


def test_a_trial_that_goes_back_an_epoch_since_its_checkpoint_was_damaged(opened: OpenSession) -> None:
    """It tells of one that is known, then trains one that is known too."""
    first = opened()
    number = begun(first)
    first.report(number, epoch(1))
    first.report(number, epoch(2))
    second = opened()
    assert begun(second) == number
    for each in (1, 2, 3):
        second.report(number, epoch(each))
    assert known(second, number) == ([1, 2, 3], [1, 2, 3], 3)


def test_a_decision_that_was_not_written_down_is_made_by_the_next_driver(
    opened: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = (tmp_path / "out", "search.pruner={kind: threshold, lower: 0.5}")
    first = opened(*strict)
    number = begun(first)

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("mtlsearch.search.Search.report", die)
        with pytest.raises(KilledError):
            first.report(number, epoch(1))
    assert study(first.folder)[number].state.name == "RUNNING"
    second = opened(*strict)
    assert study(second.folder)[number].state.name == "PRUNED"
    assert begun(second) == number + 1
    assert known(second, number) == ([1], [1], 1)


def test_every_start_has_a_larger_generation_than_all_before_also_after_a_crash(opened: OpenSession) -> None:
    first, starts = opened(), []
    starts += [first.generation() for _ in range(3)]
    second = opened()
    starts += [second.generation() for _ in range(3)]
    starts += [opened().generation()]
    assert starts == sorted(set(starts))
    assert max(starts) < 10**10  # the digits of a checkpoint's name
    assert starts[3] - starts[0] == MOST_STARTS


def test_a_full_disk_leaves_what_was_there_and_the_next_driver_goes_on(
    opened: OpenSession, small_disk: Path, listener: Listener
) -> None:
    changes = ("budget.epochs=100000",)
    session = opened(small_disk / "out", *changes)
    number, last = begun(session), 0
    with suppress(OSError):
        for last in range(1, 100_000):
            session.report(number, epoch(last, objective=0.5))
    assert 10 < last < 10_000
    before = [each.epoch for each in session.folder.trial(number).epochs()]
    assert before in (list(range(1, last)), list(range(1, last + 1)))
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    second = opened(small_disk / "out", *changes)
    assert begun(second) == number
    for each in range(last, last + 3):
        second.report(number, epoch(each, objective=0.5))
    assert known(second, number) == (list(range(1, last + 3)), list(range(1, last + 3)), last + 2)

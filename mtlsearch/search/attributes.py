"""How our trials are written down in an Optuna study: by user attributes.

Single-task baselines are trials of the same study: COMPLETE, without parameters, with the user attribute
`baseline` = task. So are the trials of the final ranking, with `final` = what is trained again. Samplers and pruners
never see them; whoever opens the study does. With trials of an earlier search, `imported`, it is the other way
round: samplers and pruners know them, but they are no trials of this experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from mtlsearch.records import Role, State, TrialRecord
from mtlsearch.search.place import Database

BASELINE = "baseline"
"""User attribute of a single-task baseline: its task."""
SCORE = "score"
"""User attribute of a finished baseline: the best validation value of its task's main metric."""
FINAL = "final"
"""User attribute of a final trial: its candidate or its task, and its repeat."""
IMPORTED = "imported"
"""User attribute of an earlier search's trial: that search's folder and the trial's number there."""
OUTCOME = "outcome"
"""User attribute of every finished trial: why it ended."""
TRAIN_LOSS = "train_loss"
"""User attribute of a finished baseline: its task's training loss in its best epoch."""
DRIVER = "driver"
"""User attribute of a trial in a database: the driver that started it, and the folder that it is in."""
TEST = "test"
"""User attribute of a trial in a database: its scores on the test split, which come after its end."""


@dataclass(frozen=True)
class Again:
    """What one trial of the final ranking trains again: a candidate's configuration, or a task's baseline."""

    candidate: int | None
    task: str | None
    repeat: int


def is_apart(trial: FrozenTrial) -> bool:
    """Whether no sampler or pruner is to know of a trial."""
    return BASELINE in trial.user_attrs or FINAL in trial.user_attrs


def again_of(trial: FrozenTrial) -> Again | None:
    """What a final trial trains again; None for any other."""
    return Again(**trial.user_attrs[FINAL]) if FINAL in trial.user_attrs else None


def role_of(trial: FrozenTrial) -> Role:
    """What the trial is for."""
    return "final" if FINAL in trial.user_attrs else "baseline" if BASELINE in trial.user_attrs else "trial"


def task_of(trial: FrozenTrial) -> str | None:
    """The task of a single-task baseline, also of one in the final ranking."""
    again = again_of(trial)
    return again.task if again is not None else trial.user_attrs.get(BASELINE)


def is_own(trial: FrozenTrial) -> bool:
    """Whether this experiment started the trial: not one that waits, not an earlier search's."""
    return trial.state != TrialState.WAITING and IMPORTED not in trial.user_attrs


def is_here(trial: FrozenTrial, driver: Database | None) -> bool:
    """Whether the trial is the driver's, or there is but one driver."""
    return driver is None or trial.user_attrs.get(DRIVER, {}).get("id") == driver.driver


def record_of(trial: FrozenTrial, driver: Database | None) -> TrialRecord:
    """The trial as the rest of the program knows it.

    Args:
        driver: for whom it is; None where the study is a file.
    """
    again = again_of(trial)
    state: State = trial.state.name  # type: ignore[assignment]  # WAITING trials are never handed out
    return TrialRecord(
        number=trial.number,
        role=role_of(trial),
        state=state,
        params=dict(trial.params),
        value=trial.value,
        reason=trial.user_attrs.get(OUTCOME, ""),
        task=task_of(trial),
        candidate=again.candidate if again is not None else None,
        repeat=again.repeat if again is not None else 0,
        intermediate=dict(trial.intermediate_values),
        folder=trial.user_attrs.get(DRIVER, {}).get("folder", ""),
        here=is_here(trial, driver),
        test=trial.user_attrs.get(TEST),
    )

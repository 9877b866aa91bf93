"""Trials that ended under an earlier driver, which was killed before it had mirrored them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialOrder, TrialRecord
from mtlsearch.search import read_records, study_of
from mtlsearch.space import flatten
from mtlsearch.tracking.wandb.run import TrialRun
from mtlsearch.tracking.wandb.sent import Extent, Sent
from mtlsearch.tracking.wandb.session import Mirrored, Mode, is_whole


@dataclass(frozen=True)
class LeftTrial:
    """One of them."""

    record: TrialRecord
    order: TrialOrder
    extent: Extent

    def mirror(self, mirrored: Mirrored, mode: Mode) -> None:
        """Writes its run from the folder.

        Raises:
            wandb.Error: the server refuses or does not answer.
            TimeoutError: the server does not take it in time.
        """
        trial, flat = ExperimentFolder(mirrored.folder).trial(self.order.number), dict(flatten(self.order.config))
        TrialRun.open(mirrored, trial, self.order, flat, mode).finish(self.record)


def left_trials(mirrored: Mirrored, heard: Container[int]) -> dict[int, LeftTrial]:
    """Trials that have ended, not among those `heard`, of which the server is not known to have everything."""
    folder = ExperimentFolder(mirrored.folder)
    found = {}
    for record in read_records(study_of(folder)):
        trial = folder.trial(record.number)
        if record.state != "RUNNING" and record.number not in heard and record.here and trial.order.exists():
            epochs = trial.epochs()
            extent = Extent(epochs[-1].epoch if epochs else 0, record.state, record.reason)
            found[record.number] = LeftTrial(record, trial.read_order(), extent)
    missing = Sent(mirrored).missing({number: each.extent for number, each in found.items()}) if found else {}
    return {number: found[number] for number in missing}


def not_mirrored(mirrored: Mirrored, left: dict[int, LeftTrial], mode: Mode) -> dict[int, LeftTrial]:
    """Those that the server has not, which is asked, or of which no offline file is whole.

    Raises:
        Exception: whatever wandb raises when the server cannot be asked.
    """
    if mode == "online":
        lacking = Sent(mirrored).confirm({number: each.extent for number, each in left.items()})
        return {number: left[number] for number in lacking}
    return {number: each for number, each in left.items() if not is_whole(mirrored, number)}

"""One trial's run, filled from metrics.jsonl where epochs were measured that it has not heard of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mtlsearch.folder import TrialFolder
from mtlsearch.records import EpochMetrics, TrialOrder, TrialRecord
from mtlsearch.tracking.wandb.session import Mirrored, Mode, note_whole, open_run
from mtlsearch.tracking.wandb.values import epoch_values, settings, summary, tags


class TrialRun:
    """An open run. An epoch that the run holds is never written twice; one that it lacks is read from the folder."""

    def __init__(self, run: Any, trial: TrialFolder, logged: int, ended: Callable[[], None]) -> None:
        self._run, self._trial, self._ended = run, trial, ended
        self._logged, self._heard = logged, False

    @classmethod
    def open(
        cls, mirrored: Mirrored, trial: TrialFolder, order: TrialOrder, flat: Mapping[str, object], mode: Mode
    ) -> TrialRun:
        """Opens the trial's run, or goes on with the one that the server has.

        Raises:
            wandb.Error: the server refuses or does not answer.
        """
        run = open_run(mirrored, order.number, mode, job_type=order.role, tags=tags(order), config=settings(flat))

        def ended() -> None:
            if mode == "offline":
                note_whole(mirrored, order.number)

        return cls(run, trial, logged=run.step - 1 if run.resumed else 0, ended=ended)

    @property
    def logged(self) -> int:
        """The last epoch that the run has."""
        return self._logged

    def log(self, metrics: EpochMetrics) -> None:
        """Writes the epoch, after those before it that the run lacks."""
        self._heard = True
        if metrics.epoch > self._logged + 1:
            self.fill(metrics.epoch - 1)
        self._put(metrics)

    def fill(self, last: int | None = None) -> None:
        """Writes what the run lacks of the epochs up to `last`, or of all."""
        for metrics in self._trial.epochs():
            if last is None or metrics.epoch <= last:
                self._put(metrics)

    def finish(self, record: TrialRecord) -> None:
        """Writes what is missing and how the trial ended, then closes the run.

        Raises:
            TimeoutError: the server does not take it in time. It is on disk.
        """
        if not self._heard:  # it was taken up only to end
            self.fill()
        self._run.summary.update(summary(record, self._trial.epochs()))
        self._run.finish(exit_code=1 if record.state == "FAIL" else 0)
        self._ended()

    def leave(self) -> None:
        """Closes the run of a trial that has not ended."""
        self._run.finish()

    def _put(self, metrics: EpochMetrics) -> None:
        """At once: what waits for the next step would overwrite the summary at the end."""
        if metrics.epoch > self._logged:
            self._run.log(epoch_values(metrics), step=metrics.epoch, commit=True)
            self._logged = metrics.epoch

"""How far a rank is, for whoever looks on from another thread; and their wish that it leaves."""

from __future__ import annotations

import time


class Watch:
    """Written by training, read by another thread, but for `leave`, where it is the other way round."""

    def __init__(self) -> None:
        self.trial: int | None = None
        """The trial that the rank has; None before the first."""
        self.generation = 0
        self.epoch = self.step = 0
        """The epoch that is trained, and how many of its steps are done."""
        self.busy = False
        """Whether the rank works; else it waits for its driver."""
        self.since = time.monotonic()
        """When one of these was last written."""
        self.leave: str | None = None
        """Why the trial is to be put down as soon as it can be taken up elsewhere without loss; None while it is
        not."""

    def begin(self, trial: int, generation: int) -> None:
        """The rank has a trial, and nobody wishes yet that it leaves."""
        self.trial, self.generation, self.epoch, self.step, self.leave = trial, generation, 0, 0, None
        self.since = time.monotonic()

    def at(self, epoch: int, step: int) -> None:
        """So far."""
        self.epoch, self.step, self.since = epoch, step, time.monotonic()

    def works(self, busy: bool) -> None:
        """The rank begins to work, or waits again."""
        self.busy, self.since = busy, time.monotonic()

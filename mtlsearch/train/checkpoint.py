"""A trial's checkpoints: written whole, read without unpickling, fenced by generation.

A file is `GENERATION-EPOCH-STEP.pt`. Each start of a trial has a generation of its own, larger than all before it, and
writes under no other: an owner that was cut off from its driver, and writes once more after another took over, cannot
touch what its successor goes on from, for readers take the highest generation. Kept are the last two files, so that one
that was damaged has one before it, and the one of the best epoch.

Each file holds what its last epoch measured. Whoever takes the trial up reports that first, so an epoch that a driver
did not live to hear of is not trained again, and none is lost.

Batch order and dropout are functions of (trial's seed, epoch, step, rank), so epoch and step are all that they need;
bfloat16 needs no gradient scaler, and labels are scaled by numbers that the data's schema holds.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from mtlsearch.errors import ConfigError, TrialFailed
from mtlsearch.folder.files import Files

DAMAGED = (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, ValueError, KeyError)
"""What torch raises of a file that was cut off or is none of ours."""

COPY = "Restore it from a copy."

_DIGEST_BYTES = hashlib.sha256().digest_size

_NAME = re.compile(r"(\d{10})-(\d{5})-(\d{8})\.pt")


@dataclass
class Checkpoint:
    """The state after some steps of an epoch, or between epochs."""

    epoch: int
    """The last one that was finished."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    balancer: dict[str, Any]
    best_objective: float
    best_epoch: int
    sampling: dict[str, Any]
    measured: str
    """`EpochReport.json()` of that epoch; empty before the first."""
    under_way: dict[str, Any] | None = None
    """`EpochMeans.state_dict()` of the next epoch, when it has begun."""

    @property
    def step(self) -> int:
        """Steps done of the next epoch."""
        return 0 if self.under_way is None else int(self.under_way["num_steps"])


class Place(NamedTuple):
    """What a file's name says; the order of places is the order in which they count."""

    generation: int
    epoch: int
    step: int

    @classmethod
    def parse(cls, name: str) -> Place | None:
        """None for a file that is no checkpoint."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(*map(int, match.groups()))

    @property
    def name(self) -> str:
        """The file's."""
        return f"{self.generation:010d}-{self.epoch:05d}-{self.step:08d}.pt"


def decode(content: bytes, device: torch.device) -> Checkpoint:
    """A file's content: what torch wrote, and its digest, since torch does not see that bits have turned.

    Raises:
        RuntimeError, …: it is damaged; see `DAMAGED`.
    """
    size = max(0, len(content) - _DIGEST_BYTES)
    if hashlib.sha256(memoryview(content)[:size]).digest() != content[size:]:
        raise ValueError("its bytes are not those that were written")
    return Checkpoint(**torch.load(io.BytesIO(content), map_location=device, weights_only=True))


class Checkpoints:
    """One trial's checkpoints as one start of it sees them.

    Args:
        files: where they are.
        generation: of this start; a reader has none.
    """

    def __init__(self, files: Files, generation: int = 0) -> None:
        self._files, self._generation = files, generation
        self._own: list[Place] = []

    def newest(self) -> bytes | None:
        """The newest file that is whole; None when the trial starts."""
        for place in self._places():
            content = self._files.read(place.name)
            try:
                if content is not None:
                    decode(content, torch.device("cpu"))
                    return content
            except DAMAGED as error:
                reason = str(error).partition("\n")[0]  # torch goes on with advice that is not for users
                sys.stderr.write(f"mtlsearch: checkpoint {place.name} is damaged and passed over: {reason}\n")
        return None

    def best(self, device: torch.device) -> Checkpoint | None:
        """The state after the best epoch; None when there is none yet.

        Raises:
            ConfigError: there was one, but all its files are gone or damaged.
        """
        newest = self.newest()
        if newest is None:
            if names := [place.name for place in self._places()]:
                raise ConfigError(
                    f"a checkpoint must be what the trial wrote, but {', '.join(names)} are damaged. {COPY}"
                )
            return None
        last = decode(newest, device)
        if last.best_epoch == 0:  # in the middle of the first epoch
            return None
        if last.best_epoch == last.epoch and last.under_way is None:
            return last
        found = self._find(last.best_epoch)
        if found is None:
            raise ConfigError(
                f"the checkpoint of the best epoch, {last.best_epoch}, must be there, but is missing or damaged. {COPY}"
            )
        return decode(found, device)

    def take_over(self) -> bytes | None:
        """The newest file, from now on under this generation's name, and so is the best; those before go.

        Without that, an owner before that still runs could remove what this one relies on.

        Raises:
            TrialFailed: a later start was here; nobody waits for this one any more.
        """
        if (later := max(self._places(), default=Place(0, 0, 0)).generation) > self._generation:
            raise TrialFailed(f"start {self._generation} of this trial came too late: start {later} has taken it over")
        newest = self.newest()
        if newest is None:
            return None
        state = decode(newest, torch.device("cpu"))
        earlier = self._places()
        self._write(Place(self._generation, state.epoch, state.step), newest)
        is_best = state.best_epoch == state.epoch and state.under_way is None
        if not is_best and (best := self._find(state.best_epoch)) is not None:
            self._write(Place(self._generation, state.best_epoch, 0), best)
        for place in earlier:
            if place.generation < self._generation:
                self._files.remove(place.name)
        self._own.sort()
        return newest

    def save(self, state: Checkpoint) -> None:
        """Adds a file and removes those that are no longer needed.

        Raises:
            OSError: it cannot be written; what was there stays.
        """
        buffer = io.BytesIO()
        torch.save(vars(state), buffer)  # not asdict, which would copy every tensor first
        buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
        self._write(Place(self._generation, state.epoch, state.step), buffer.getbuffer())
        best = Place(self._generation, state.best_epoch, 0)
        for place in [each for each in self._own[:-2] if each != best]:
            self._own.remove(place)
            self._files.remove(place.name)

    def _write(self, place: Place, content: bytes | memoryview) -> None:
        self._files.write(place.name, content)
        if place in self._own:  # an epoch that is trained again
            self._own.remove(place)
        self._own.append(place)

    def _places(self) -> list[Place]:
        """Newest first."""
        return sorted(filter(None, map(Place.parse, self._files.names())), reverse=True)

    def _find(self, epoch: int) -> bytes | None:
        """The newest whole file between this epoch and the next."""
        for place in self._places():
            if (place.epoch, place.step) == (epoch, 0) and (content := self._files.read(place.name)) is not None:
                try:
                    decode(content, torch.device("cpu"))
                except DAMAGED:
                    continue
                return content
        return None

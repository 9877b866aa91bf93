"""A trial's checkpoints: last.pt to go on from, best.pt to use. Written whole, read without unpickling.

The one before the last stays as before.pt: a checkpoint counts once its epoch is a line of metrics.jsonl, and what was
killed in between goes on from there.

Batch order and dropout are functions of (trial's seed, epoch, step, rank), so epoch and step are all that they need;
bfloat16 needs no gradient scaler, and labels are scaled by numbers that the data's schema holds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mtlsearch.folder import TrialFolder


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
    under_way: dict[str, Any] | None = None
    """`EpochMeans.state_dict()` of the next epoch, when it has begun."""


def save(folder: TrialFolder, state: Checkpoint) -> None:
    """Replaces last.pt, which becomes before.pt, and best.pt when this epoch is the best so far."""
    last = folder.checkpoint / "last.pt"
    aside = last.with_suffix(".writing")
    torch.save(vars(state), aside)  # not asdict, which would copy every tensor first
    if last.exists():
        last.replace(folder.checkpoint / "before.pt")
    aside.replace(last)
    if (
        state.best_epoch == state.epoch and state.under_way is None
    ):  # a second name for the same file, not a second copy
        aside.unlink(missing_ok=True)
        os.link(last, aside)
        aside.replace(folder.checkpoint / "best.pt")


def load_last(folder: TrialFolder, device: torch.device) -> Checkpoint | None:
    """The newest state whose epoch is in metrics.jsonl, or None when the trial starts."""
    measured = max((metrics.epoch for metrics in folder.epochs()), default=0)
    found = (_load(folder.checkpoint / name, device) for name in ("last.pt", "before.pt"))
    return next((state for state in found if state is not None and state.epoch <= measured), None)


def load_best(folder: TrialFolder, device: torch.device) -> Checkpoint | None:
    """The state after the best epoch, or None when there is none yet."""
    return _load(folder.checkpoint / "best.pt", device)


def _load(path: Path, device: torch.device) -> Checkpoint | None:
    if not path.exists():
        return None
    return Checkpoint(**torch.load(path, map_location=device, weights_only=True))

"""The experiment's own run: its leaderboard as a table, pictures, the winner's model, the folder as a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlsearch.report.experiment import Facts
from mtlsearch.tracking.wandb.session import Mirrored, Mode, open_run

_LEFT_OUT = frozenset({"wandb", "driver.lock", "lock"})
"""Of the folder: W&B's own files, and locks."""

LARGEST = 64 * 1024**2
"""Bytes of the largest file of the folder that is sent."""


@dataclass(frozen=True)
class Board:
    """What the leaderboard's run shows."""

    facts: Facts
    pictures: tuple[Path, ...] = ()
    """PNG files; each is shown under its name."""
    model: Path | None = None
    """The winner's folder, as `mtlsearch export` writes it."""
    winner: int | None = None
    """Its trial, whose checkpoint goes with the folder."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The leaderboard's, and what else is known of a trial."""
        return (*self.facts.board.columns, "delta", "num_parameters")

    def rows(self) -> list[list[Any]]:
        """A row a trial, best first; None where there is nothing."""
        rows = []
        for row in self.facts.board.rows:
            trial = self.facts.trials[row["trial"]]
            gains = self.facts.gains(trial)
            delta = sum(gains.values()) / len(gains) if gains else None
            count = None if trial.model is None else trial.model.num_parameters
            rows.append([*row.values(), delta, count])
        return rows

    @property
    def digest(self) -> str:
        """Changes with the leaderboard."""
        return hashlib.sha256(json.dumps([self.columns, self.rows()]).encode()).hexdigest()[:16]


def publish(mirrored: Mirrored, board: Board, mode: Mode) -> None:
    """Writes the leaderboard's run, or adds to it what the leaderboard is now.

    Raises:
        TimeoutError: the server does not take it in time.
        Exception: whatever else wandb raises.
    """
    run = open_run(mirrored, None, mode, job_type="leaderboard", config={"experiment": mirrored.name})
    try:
        _fill(run, mirrored, board)
    finally:  # a run that stays open cannot be opened again
        run.finish()


def _fill(run: Any, mirrored: Mirrored, board: Board) -> None:
    import wandb

    shown: dict[str, Any] = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in board.pictures}
    shown["leaderboard"] = wandb.Table(columns=list(board.columns), data=board.rows(), allow_mixed_types=True)
    run.log(shown)
    if board.model is not None:
        model = wandb.Artifact(f"{mirrored.experiment_id}-model", type="model", metadata={"trial": board.winner})
        model.add_dir(str(board.model))
        run.log_artifact(model)
    folder = wandb.Artifact(f"{mirrored.experiment_id}-experiment", type="dataset")
    for path in experiment_files(mirrored.folder, board.winner):
        folder.add_file(str(path), name=str(path.relative_to(mirrored.folder)))
    run.log_artifact(folder)
    run.summary.update({"trials": len(board.facts.records), "winner": board.winner, "digest": board.digest})


def experiment_files(folder: Path, winner: int | None) -> Iterator[Path]:
    """The folder's files without W&B's own, locks, what is too large, and checkpoints but the winner's."""
    kept = folder / "trials" / f"{winner:05d}" / "checkpoint" if winner is not None else None
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        left_out = not _LEFT_OUT.isdisjoint(parts) or any(part.startswith(".") for part in parts)
        checkpoint = "checkpoint" in parts and kept not in path.parents
        if path.is_file() and not left_out and not checkpoint and path.stat().st_size <= LARGEST:
            yield path

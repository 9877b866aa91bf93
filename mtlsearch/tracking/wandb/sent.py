"""What the server has: asked, and noted in DIR/wandb/sent.json, so that nothing is sent twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mtlsearch.errors import ConfigError, Where
from mtlsearch.folder.files import write_whole
from mtlsearch.tracking.wandb.session import Mirrored, ask, entity, mark_files

_PAGE = 200
"""Runs that one question asks for."""


@dataclass(frozen=True)
class Extent:
    """How much of a trial's run there is."""

    epoch: int
    """The last one, 0 without any."""
    state: str | None
    reason: str | None

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Extent:
        """Of a run with that summary."""
        return cls(int(summary.get("epoch") or 0), summary.get("state"), summary.get("reason"))

    def reaches(self, wanted: Extent) -> bool:
        """Whether nothing of it is missing."""
        return self.epoch >= wanted.epoch and (self.state, self.reason) == (wanted.state, wanted.reason)


class Sent:
    """DIR/wandb/sent.json: run → what of it the server has confirmed."""

    def __init__(self, mirrored: Mirrored) -> None:
        self._mirrored, self._path = mirrored, mirrored.files / "sent.json"
        self._runs = self._read()

    def missing(self, wanted: Mapping[int, Extent]) -> dict[int, Extent]:
        """The trials of which the server is not known to have everything."""
        return {trial: extent for trial, extent in wanted.items() if self._runs.get(self._id(trial)) != asdict(extent)}

    def confirm(self, wanted: Mapping[int, Extent]) -> dict[int, Extent]:
        """Asks the server, notes what it has, and gives the trials of which it has not everything.

        Raises:
            Exception: whatever wandb raises when the server cannot be asked.
        """
        there = held(self._mirrored)
        lacking = {}
        for trial, extent in wanted.items():
            found = there.get(self._id(trial))
            if found is not None and Extent.of(found).reaches(extent):
                self._runs[self._id(trial)] = asdict(extent)
                mark_files(self._mirrored, trial)
            else:
                lacking[trial] = extent
        self._write()
        return lacking

    def has_board(self, digest: str) -> bool:
        """Whether that leaderboard was sent."""
        return self._runs.get(self._id(None)) == digest

    def confirm_board(self, digest: str) -> bool:
        """Asks the server whether it has that leaderboard, and notes it.

        Raises:
            Exception: whatever wandb raises when the server cannot be asked.
        """
        there = held(self._mirrored).get(self._id(None), {}).get("digest") == digest
        if there:
            self._runs[self._id(None)] = digest
            mark_files(self._mirrored, None)
            self._write()
        return there

    def _id(self, trial: int | None) -> str:
        return self._mirrored.run_id(trial)

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        try:
            runs = json.loads(self._path.read_bytes())["runs"]
            return dict(runs)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                "the file must be what `mtlsearch sync` wrote, but is damaged. Delete it: the server is asked again.",
                Where(self._path),
            ) from error

    def _write(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        write_whole(self._path, json.dumps({"runs": self._runs}, indent=1))


def held(mirrored: Mirrored) -> dict[str, Mapping[str, Any]]:
    """Run id → the summary that the server has of it, for all of the experiment's runs.

    Raises:
        Exception: whatever wandb raises when the server cannot be asked.
    """
    path = f"{entity(mirrored)}/{mirrored.config.project}"
    runs = ask().runs(path, filters={"group": mirrored.group}, per_page=_PAGE, lazy=False)
    return {run.id: run.summary_metrics for run in runs}

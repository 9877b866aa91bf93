"""An experiment's folder shown in W&B: at the end of a search, by `mtlsearch sync` and `mtlsearch leaderboard --wandb`.

What is shown is made anew from the folder each time; nothing of it is read from W&B's own files.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtlsearch.config import WandbConfig
from mtlsearch.errors import ConfigError, MtlsearchError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.experiment import Facts, read_experiment_facts
from mtlsearch.space import Experiment, read_experiment
from mtlsearch.tracking import Tracker
from mtlsearch.tracking.wandb import WandbTracker
from mtlsearch.tracking.wandb.board import Board, publish
from mtlsearch.tracking.wandb.sent import Sent
from mtlsearch.tracking.wandb.session import Mirrored, Mode, entity, resolve_mode, short, silence, wanted_mode, within
from mtlsearch.tracking.wandb.sync import check_login, send_trials
from mtlsearch.tracking.wandb.workspace import build, check_installed, save

END_SECONDS = 60.0
"""Longest that the end of a search waits for the leaderboard's run; its files are sent with it."""

COMMAND_SECONDS = 600.0
"""The same for a command that was given for nothing else."""


def mirrored(experiment: Experiment, folder: ExperimentFolder) -> Mirrored:
    """The experiment as W&B knows it. Its id is the same for every driver: from its plan, which is written once."""
    experiment_id = hashlib.sha256(folder.plan.read_bytes()).hexdigest()[:8]
    wandb = experiment.tracking.wandb or WandbConfig()
    return Mirrored(wandb, folder.path, experiment.name, experiment_id, folder.uri)


def publish_at_end(experiment: Experiment, folder: ExperimentFolder, trackers: Sequence[Tracker]) -> None:
    """Writes the leaderboard's run; what goes wrong is said, and is no failure of the search.

    Offline where the server has failed the search's mirror before: it would be waited for in vain again.
    """
    outage = any(isinstance(tracker, WandbTracker) and tracker.outage for tracker in trackers)
    theirs = mirrored(experiment, folder)
    try:
        silence()
        mode: Mode = "offline" if outage else resolve_mode(theirs.config.mode)
        if mode != "disabled":
            _publish(theirs, folder, mode, END_SECONDS)
    except Exception as error:  # noqa: BLE001  # a mirror must not fail the search, whatever it raises
        sys.stderr.write(
            f"mtlsearch: W&B has no leaderboard yet ({short(error)}); send it with: {theirs.sync_command()}\n"
        )


def send_rest(folder: ExperimentFolder) -> str:
    """Sends W&B what it has not got of the experiment, once; says what that was.

    Raises:
        ConfigError: there is no login, or the search runs.
        MtlsearchError: the server cannot be reached, or does not take everything.
    """
    theirs = mirrored(_experiment(folder), folder)
    with folder.driven():
        facts = read_experiment_facts(folder)
        trials = send_trials(theirs, facts)
        leaderboard = not Sent(theirs).has_board(Board(facts).digest)
        if leaderboard:
            check_login(theirs)
            _publish_or_fail(theirs, folder)
    if not trials and not leaderboard:
        return "W&B has everything of this experiment: nothing was sent"
    return f"sent W&B {trials} trials" + (" and the leaderboard" if leaderboard else "")


def publish_workspace(folder: ExperimentFolder) -> str:
    """Brings the leaderboard's run up to date and saves the experiment's workspace; its URL.

    Raises:
        ConfigError: wandb-workspaces is not installed, there is no login, or W&B is to be offline.
        MtlsearchError: the server cannot be reached, or does not take it.
    """
    check_installed()
    experiment = _experiment(folder)
    theirs = mirrored(experiment, folder)
    if (mode := wanted_mode(theirs.config.mode)) not in ("auto", "online"):
        raise ConfigError(
            f"`--wandb` needs W&B's server, but W&B is to be {mode}. Unset WANDB_MODE, and set tracking.wandb.mode "
            "to auto."
        )
    check_login(theirs)
    if not Sent(theirs).has_board(Board(read_experiment_facts(folder)).digest):
        _publish_or_fail(theirs, folder)
    urls: list[str] = []

    def show() -> None:
        facts = read_experiment_facts(folder)
        workspace = build(theirs, entity(theirs), facts)
        urls.append(save(theirs, workspace))

    _or_fail(theirs, show)
    return urls[0]


def _publish_or_fail(theirs: Mirrored, folder: ExperimentFolder) -> None:
    _or_fail(theirs, lambda: _publish(theirs, folder, "online", COMMAND_SECONDS))


def _or_fail(theirs: Mirrored, work: Callable[[], None]) -> None:
    try:
        within(COMMAND_SECONDS, work)
    except MtlsearchError:
        raise
    except Exception as error:
        raise MtlsearchError(
            f"W&B did not take the leaderboard of {theirs.folder}: {short(error)}. Nothing is lost; try again later."
        ) from error


def _publish(theirs: Mirrored, folder: ExperimentFolder, mode: Mode, seconds: float) -> None:
    facts = read_experiment_facts(folder)
    with _board(facts) as board:
        within(seconds, lambda: publish(theirs, board, mode))
        if mode == "online" and not Sent(theirs).confirm_board(board.digest):
            raise MtlsearchError(f"W&B has not taken the leaderboard. Try again later: {theirs.sync_command()}")


@contextmanager
def _board(facts: Facts) -> Iterator[Board]:
    """With its files, which are there as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="mtlsearch-") as name:
        place = Path(name)
        model, winner = _model(facts, place / "model")
        yield Board(facts, _pictures(facts, place / "pictures"), model, winner)


def _pictures(facts: Facts, place: Path) -> tuple[Path, ...]:
    from mtlsearch.report.charts import charts  # a second of imports
    from mtlsearch.report.png import write_pngs

    return tuple(write_pngs(charts(facts), place))


def _model(facts: Facts, place: Path) -> tuple[Path | None, int | None]:
    """The winner's folder and number; None where no trial is complete."""
    if not any(record.state == "COMPLETE" and record.role == "trial" for record in facts.records):
        return None, None
    from mtlsearch.export.trial import export_trial  # torch

    return place, export_trial(facts.folder, None, place).trial


def _experiment(folder: ExperimentFolder) -> Experiment:
    return read_experiment(folder.space, tuple(folder.read_plan().get("overrides", ())))

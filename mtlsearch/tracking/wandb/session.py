"""How this process talks to W&B: logged in or not, quietly, and never longer than so many seconds.

Whatever W&B does with the network, it does in a process of its own; what waits for that process, waits here.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from mtlsearch.config import WandbConfig

Mode = Literal["online", "offline", "disabled", "shared"]

INIT_SECONDS = 10
"""Longest that a run's start waits for the server."""

RUN_SECONDS = 10.0
"""Longest that a run's end waits for what is not sent yet."""

API_SECONDS = 10
"""Longest that a question to the server waits for the answer."""

SYNCED = ".synced"
"""What `wandb sync` writes behind the name of a run's file that it need not send (again)."""

WHOLE = ".whole"
"""What stands behind the name of an offline file that has all of a trial which has ended."""

_REFUSED = re.compile(r"returned error (4\d\d)\b|\b(4\d\d) Client Error")


@dataclass(frozen=True)
class Mirrored:
    """An experiment as W&B knows it."""

    config: WandbConfig
    folder: Path
    """Of the experiment; W&B's own files are in `folder/wandb`."""
    name: str
    """Begins the runs' and their group's names."""
    experiment_id: str
    """Begins the runs' ids, which are apart from those of another experiment with the same name."""
    uri: str | None = None
    """Of the storage that the experiment is in; None when it is in the folder."""

    @property
    def files(self) -> Path:
        """Where W&B's files are."""
        return self.folder / "wandb"

    @property
    def group(self) -> str:
        """Of the experiment's runs; another experiment with the same name has another."""
        return f"{self.name}-{self.experiment_id}"

    def run_id(self, trial: int | None) -> str:
        """Of a trial's run, or of the leaderboard's (None)."""
        return f"{self.experiment_id}-{_suffix(trial)}"

    def run_name(self, trial: int | None) -> str:
        """As people see it."""
        return f"{self.name}-{_suffix(trial)}"

    def sync_command(self) -> str:
        """What sends the rest."""
        import shlex

        return f"mtlsearch sync {shlex.quote(self.uri or str(self.folder))}"


def _suffix(trial: int | None) -> str:
    return "leaderboard" if trial is None else f"{trial:05d}"


def silence(*, online: bool = False) -> None:
    """W&B says nothing on the terminal, where it would tear the live view, and sends no reports of its own.

    Args:
        online: whatever $WANDB_MODE says.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else the process's exit waits for them, 10 s offline
    import wandb

    wandb.setup(wandb.Settings(silent=True, mode="online") if online else wandb.Settings(silent=True))


def resolve_mode(mode: str) -> Mode:
    """`auto` is $WANDB_MODE, or online with a login, else offline; never asks on the terminal.

    Raises:
        RuntimeError: it is to be online, without a login.
    """
    wanted = wanted_mode(mode)
    if wanted not in ("auto", "online"):
        return cast(Mode, wanted)  # wandb refuses what it does not know
    if logged_in():
        return "online"
    if wanted == "online":
        raise RuntimeError("there is no login. Run `wandb login`, or set tracking.wandb.mode to offline.")
    return "offline"


def wanted_mode(mode: str) -> str:
    """As configured, $WANDB_MODE where that is `auto`; a login is not looked for."""
    return (os.environ.get("WANDB_MODE") if mode == "auto" else None) or mode


def logged_in() -> bool:
    """Whether there is an API key; the server is not asked."""
    import wandb

    return bool(wandb.login(prompt=False, verify=False))


def entity(mirrored: Mirrored) -> str:
    """Whose project it is: as configured, or the user's own.

    Raises:
        Exception: whatever wandb raises when the server cannot be asked.
    """
    return mirrored.config.entity or str(ask().default_entity)


def ask() -> Any:
    """What questions to the server go through."""
    import wandb

    return wandb.Api(timeout=API_SECONDS)


def restart() -> None:
    """Ends W&B's process: where a run's start has failed, its id stays in use there."""
    import wandb

    wandb.teardown()
    silence()


def open_run(mirrored: Mirrored, trial: int | None, mode: Mode, **described: Any) -> Any:
    """Opens a run, or goes on with it.

    Args:
        mirrored: the experiment.
        trial: its number; None is the leaderboard.
        mode: where it goes.
        described: job_type, tags, config.
    Raises:
        wandb.Error: the server refuses, or does not answer within INIT_SECONDS.
    """
    import wandb  # a second of imports, which only searches with W&B pay, and in a thread

    if mode == "offline":
        mark_files(mirrored, trial)  # the newest file holds all of the run: the older ones would add it again
    return wandb.init(
        project=mirrored.config.project,
        entity=mirrored.config.entity,
        dir=str(mirrored.folder),
        id=mirrored.run_id(trial),
        name=mirrored.run_name(trial),
        group=mirrored.group,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        mode=mode,
        settings=wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            init_timeout=INIT_SECONDS,
            finish_timeout=RUN_SECONDS,
            finish_timeout_raises=True,
            x_disable_stats=True,
            x_disable_meta=True,  # plan.json says what ran, with which versions
            x_save_requirements=False,
        ),
        **described,
    )


def mark_files(mirrored: Mirrored, trial: int | None) -> None:
    """Has `wandb sync` pass over what there is of a run's offline files."""
    for file in _offline_files(mirrored, trial):
        file.with_name(file.name + SYNCED).touch()


def note_whole(mirrored: Mirrored, trial: int) -> None:
    """Notes that the newest offline file of a trial that has ended has all of it."""
    for file in _offline_files(mirrored, trial)[-1:]:
        file.with_name(file.name + WHOLE).touch()


def is_whole(mirrored: Mirrored, trial: int) -> bool:
    """Whether that was noted."""
    return any(file.with_name(file.name + WHOLE).exists() for file in _offline_files(mirrored, trial)[-1:])


def _offline_files(mirrored: Mirrored, trial: int | None) -> list[Path]:
    """Of a run, the oldest first: their folders' names begin with the time."""
    return sorted(mirrored.files.glob(f"offline-run-*/run-{mirrored.run_id(trial)}.wandb"))


def short(error: Exception) -> str:
    """An error in a few words that a sentence can go on after; wandb's may have many lines, and the server's JSON."""
    if (refused := _REFUSED.search(str(error))) is not None:
        return f"the server refuses ({refused[1] or refused[2]})"
    return next(iter(str(error).splitlines()), "").rstrip(". ") or type(error).__name__


def within(seconds: float, work: Callable[[], None]) -> None:
    """Does it in a thread, and leaves that alone when it takes longer.

    Raises:
        TimeoutError: it takes longer.
        Exception: what the work raises.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # raised again below, where somebody waits for it
            raised.append(error)

    thread = threading.Thread(target=run, name="wandb", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if raised:
        raise raised[0]

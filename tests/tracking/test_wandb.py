"""The W&B mirror: what it writes when offline, and that nothing it does can disturb a search."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wandb_files import current_files, finished, history, summary, values

from mtlsearch.config import WandbConfig
from mtlsearch.errors import ConfigError
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import CONTINUE, EpochMetrics
from mtlsearch.tracking.wandb import WandbTracker
from mtlsearch.tracking.wandb import tracker as mirror
from mtlsearch.tracking.wandb.board import Board, publish
from mtlsearch.tracking.wandb.session import Mirrored, short
from mtlsearch.tracking.wandb.workspace import check_installed


def _expected(metrics: EpochMetrics) -> dict[str, float]:
    """What an epoch's history item must hold."""
    plain = metrics.model_dump(exclude={"validation", "train_loss", "task_weights", "penalties", "mixture", "sampling"})
    plain |= {f"{task}/sampling_share": share for task, share in metrics.sampling["share"].items()}
    plain |= {f"penalty/{name}": value for name, value in metrics.penalties.items()}
    assert metrics.mixture is not None
    for name in ("diversity", "diversity_off_diagonal", "dead_experts"):
        plain[name] = getattr(metrics.mixture, name)
    plain |= {f"{task}/gate_entropy": entropy for task, entropy in metrics.mixture.gate_entropy.items()}
    for task, scores in metrics.validation.items():
        plain |= {f"{task}/{name}": value for name, value in scores.items() if value is not None}
        plain |= {f"{task}/train_loss": metrics.train_loss[task], f"{task}/weight": metrics.task_weights[task]}
    return plain


@pytest.fixture
def tracker(tmp_path: Path) -> WandbTracker:
    return WandbTracker(Mirrored(WandbConfig(project="p"), tmp_path, "flights", "abc12345"))


def test_offline_runs_hold_every_value(tracker, events, tmp_path, capfd):
    events.tell_trial(tracker, 4, (0.125, 0.25, 0.2))
    events.tell_trial(tracker, 5, (-0.5,))
    tracker.search_finished(events.state())
    assert capfd.readouterr() == (
        "",
        f"mtlsearch: W&B was offline; send its runs with: mtlsearch sync {tmp_path} "
        f"(or: wandb sync {tmp_path}/wandb/offline-run-*)\n",
    )
    files = current_files(tmp_path)
    assert [path.name for path in files] == ["run-abc12345-00004.wandb", "run-abc12345-00005.wandb"]
    for path, number, objectives in zip(files, (4, 5), ((0.125, 0.25, 0.2), (-0.5,)), strict=True):
        records = finished(path)
        run = next(record.run for record in records if record.HasField("run"))
        assert (run.project, run.run_group, run.display_name) == ("p", "flights-abc12345", f"flights-{number:05d}")
        assert (run.job_type, sorted(run.tags)) == ("trial", ["dense", "mmoeex", "uniform"])
        config = values(run.config.update)
        assert (config["model/kind"], config["model/alpha"], config["optimizer/lr"]) == ("mmoeex", 0.5, 1e-3)
        assert history(records) == [
            {"_step": epoch, **_expected(events.epoch(epoch, objective))}
            for epoch, objective in enumerate(objectives, start=1)
        ]
        assert summary(records).items() >= {
            ("state", "COMPLETE"),
            ("reason", "trained all"),
            ("objective", max(objectives)),
        }
        assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]


def test_a_trial_that_was_taken_up_again_offline_is_whole_in_one_file(events, tmp_path):
    """Two files with one id would be sent one behind the other, epochs trained again twice."""
    mirrored = Mirrored(WandbConfig(project="p"), tmp_path, "flights", "abc12345")
    order, trial = events.order(4), ExperimentFolder(tmp_path).trial(4)
    trial.begin(order)

    def tell(epochs: range, seconds: float) -> WandbTracker:
        tracker = WandbTracker(mirrored)
        tracker.trial_started(order, {})
        for epoch in epochs:
            metrics = events.epoch(epoch, epoch / 8).model_copy(update={"seconds": seconds})
            trial.append(metrics)
            tracker.epoch_finished(order, metrics, CONTINUE)
        return tracker

    tell(range(1, 3), 1.0).search_finished(events.state())
    trial.append(events.epoch(3, 3 / 8))  # killed before it was told
    tracker = tell(range(4, 6), 2.0)
    tracker.trial_finished(order, events.record(4, "COMPLETE", 0.625, "trained all"), events.state())
    tracker.search_finished(events.state())
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 2
    (path,) = current_files(tmp_path)
    assert history(finished(path)) == [{"_step": each.epoch, **_expected(each)} for each in trial.epochs()]
    assert [each.seconds for each in trial.epochs()] == [1.0, 1.0, 1.25, 2.0, 2.0]


def test_the_summary_has_the_scores_of_the_epoch_that_the_objective_is_of(tracker, events, tmp_path):
    trial = ExperimentFolder(tmp_path).trial(4)
    trial.begin(events.order(4))
    for epoch, objective in enumerate((0.125, 0.25, 0.2), start=1):
        trial.append(events.epoch(epoch, objective))
    events.tell_trial(tracker, 4, (0.125, 0.25, 0.2))
    tracker.search_finished(events.state())
    (path,) = current_files(tmp_path)
    found, best = summary(finished(path)), events.epoch(2, 0.25)
    for task, scores in best.validation.items():
        assert {name: found.get(f"{task}/{name}") for name in scores} == scores
    assert (found["objective"], found["best_epoch"], found["epoch"]) == (0.25, 2, 3)


# What goes wrong -------------------------------------------------------------------------------------------------


class _Run:
    """A run that keeps what it is given."""

    resumed = False

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.summary: dict[str, object] = {}
        self.exit_code: int | None = None

    def log(self, values: dict[str, float], step: int, commit: bool) -> None:
        self.logged.append({"step": step, **values})

    def finish(self, exit_code: int = 0) -> None:
        self.exit_code = exit_code


@pytest.fixture
def fake_init(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Puts a function in place of `wandb.init`."""
    import wandb

    return lambda init: monkeypatch.setattr(wandb, "init", init)


def test_a_failed_trial_closes_its_run_as_failed(tracker, events, fake_init):
    runs: list[_Run] = []
    fake_init(lambda **_: runs.append(_Run()) or runs[-1])
    tracker.trial_started(events.order(4), {})
    tracker.trial_finished(events.order(4), events.record(4, "FAIL", None, "nan"), events.state())
    tracker.trial_started(events.order(5), {})
    tracker.search_finished(events.state())
    assert [run.exit_code for run in runs] == [1, 0]  # the second one was still open
    assert runs[0].summary == {"objective": None, "state": "FAIL", "reason": "nan"}


def test_an_error_is_said_once_and_the_search_goes_on(tracker, events, fake_init, capfd, tmp_path):
    calls: list[object] = []

    def refuse(**_: object) -> None:
        calls.append(None)
        raise OSError("the server said no")

    fake_init(refuse)
    for number in (4, 5):
        events.tell_trial(tracker, number, (0.5, 0.25))
    tracker.search_finished(events.state())
    assert len(calls) == 1
    assert capfd.readouterr() == (
        "",
        "mtlsearch: W&B stopped mirroring this search (the server said no); the folder has everything, send the rest "
        f"with: mtlsearch sync {tmp_path}\n",
    )


def test_a_finish_that_hangs_is_waited_for_so_long_and_no_longer(
    tracker, events, fake_init, monkeypatch, capfd, tmp_path
):
    let_go = threading.Event()

    class Hanging(_Run):
        def finish(self, exit_code: int = 0) -> None:
            let_go.wait(30)

    fake_init(lambda **_: Hanging())
    monkeypatch.setattr(mirror, "FINISH_SECONDS", 0.2)
    start = time.monotonic()
    events.tell_trial(tracker, 4, (0.5,))
    tracker.search_finished(events.state())
    took = time.monotonic() - start
    let_go.set()
    assert took < 5
    assert capfd.readouterr().err == (
        "mtlsearch: W&B did not finish within 0.2 s; the folder has everything, send the rest with: "
        f"mtlsearch sync {tmp_path}\n"
    )


def test_a_search_does_not_wait_for_a_start_that_hangs(tracker, events, fake_init, monkeypatch):
    let_go = threading.Event()
    fake_init(lambda **_: (let_go.wait(30), _Run())[1])
    start = time.monotonic()
    for number in range(50):
        events.tell_trial(tracker, number, (0.5, 0.25))
    took = time.monotonic() - start
    let_go.set()
    tracker.search_finished(events.state())
    assert took < 5


def test_a_leaderboard_that_cannot_be_made_leaves_no_run_open(tmp_path):
    mirrored = Mirrored(WandbConfig(project="p"), tmp_path, "flights", "abc12345")
    for _ in range(2):  # an open run's id would be in use the second time
        with pytest.raises(FileNotFoundError):
            publish(mirrored, Board(None, pictures=(tmp_path / "missing.png",)), "offline")
    (path,) = current_files(tmp_path)
    finished(path)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("no answer within 10 s.", "no answer within 10 s"),
        ("first line\nsecond line", "first line"),
        ('Failed to get resume status for run a: returned error 403: {"data":null}', "the server refuses (403)"),
        ("", "OSError"),
    ],
)
def test_an_error_is_said_in_a_few_words(raised, said):
    assert short(OSError(raised)) == said


# Online or offline -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "environment", "login", "mode"),
    [
        ("auto", None, False, "offline"),
        ("auto", None, True, "online"),
        ("auto", "offline", True, "offline"),
        ("auto", "disabled", True, "disabled"),
        ("offline", None, True, "offline"),
        ("online", None, True, "online"),
    ],
)
def test_where_runs_go(tmp_path, events, fake_init, monkeypatch, capfd, configured, environment, login, mode):
    import wandb

    modes: list[str] = []
    fake_init(lambda mode, **_: modes.append(mode) or _Run())
    monkeypatch.setattr(wandb, "setup", lambda *_, **__: None)
    monkeypatch.setattr(wandb, "login", lambda **options: login and options == {"prompt": False, "verify": False})
    monkeypatch.setenv("WANDB_MODE", environment) if environment else monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(mirror.Sent, "confirm", lambda *_: {})  # nobody to ask here
    tracker = WandbTracker(Mirrored(WandbConfig(mode=configured), tmp_path / "a b", "g", "id"))
    events.tell_trial(tracker, 4, (0.5,))
    tracker.search_finished(events.state())
    assert modes == [mode]
    sync = (
        f"mtlsearch: W&B was offline; send its runs with: mtlsearch sync '{tmp_path / 'a b'}' "
        f"(or: wandb sync '{tmp_path / 'a b' / 'wandb'}'/offline-run-*)\n"
    )
    assert capfd.readouterr().err == (sync if mode == "offline" else "")


def test_online_without_a_login_says_what_to_do(tmp_path, events, fake_init, monkeypatch, capfd):
    import wandb

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    tracker = WandbTracker(Mirrored(WandbConfig(mode="online"), tmp_path, "g", "id"))
    events.tell_trial(tracker, 4, (0.5,))
    tracker.search_finished(events.state())
    assert "there is no login. Run `wandb login`, or set tracking.wandb.mode to offline);" in capfd.readouterr().err


def test_a_search_without_trials_says_nothing(tracker, events, capfd):
    tracker.search_finished(events.state())
    assert capfd.readouterr() == ("", "")


def test_a_workspace_without_its_package_is_the_users_mistake(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"Install it: pip install 'mtlsearch\[wandb\]'"):
        check_installed()

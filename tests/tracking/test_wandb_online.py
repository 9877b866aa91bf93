"""The W&B mirror against a server: what arrives there, and that no failure of it reaches a search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb_files import current_files, finished, history
from wandb_server import KEY, OF_THIS_PROCESS, WandbServer

from mtlsearch.folder import ExperimentFolder
from mtlsearch.tracking.wandb.values import epoch_values

CHILD = Path(__file__).with_name("wandb_child.py")
RUN = "abc12345-00004"

Tell = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running


@pytest.fixture
def tell(server: WandbServer, tmp_path: Path) -> Iterator[Tell]:
    """`tell(1, 3, "--ends")`: a process with a login at the server, whose tracker hears of epochs 1 to 3 of trial 4."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if name not in OF_THIS_PROCESS}
        env |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, str(CHILD), str(tmp_path), *map(str, arguments)]
        started.append(subprocess.Popen(command, env=env, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def measured(folder: Path) -> list[dict[str, float]]:
    """What metrics.jsonl has, as a run's history has it."""
    return [epoch_values(each) for each in ExperimentFolder(folder).trial(4).epochs()]


def test_a_run_arrives_whole(server, tell, tmp_path):
    out, err = tell(1, 3, "--ends").communicate(timeout=40)
    assert err == ""
    assert list(server.runs) == [RUN]
    run = server.run(RUN)
    assert run.plain == measured(tmp_path)
    assert {name: run.given(name) for name in ("project", "groupName", "jobType", "displayName", "tags")} == {
        "project": "p",
        "groupName": "flights-abc12345",
        "jobType": "trial",
        "displayName": "flights-00004",
        "tags": ["dense", "mmoeex", "uniform"],
    }
    assert run.settings["model/kind"] == "mmoeex"
    assert (run.summary["objective"], run.summary["state"], run.summary["reason"]) == (0.375, "COMPLETE", "trained all")
    assert run.exit_codes == [0]
    assert json.loads(out)["telling"] < 0.5
    sent = json.loads((tmp_path / "wandb" / "sent.json").read_text())
    assert sent == {"runs": {RUN: {"epoch": 3, "state": "COMPLETE", "reason": "trained all"}}}


@pytest.mark.slow
def test_a_trial_taken_up_again_goes_on_in_its_run(server, tell, tmp_path):
    """Interrupted after epoch 3, which the trial tells of again and the tracker does not hear of again."""
    tell(1, 3).communicate(timeout=40)
    _, err = tell(4, 5, "--ends").communicate(timeout=40)
    assert err == ""
    assert list(server.runs) == [RUN]
    assert server.run(RUN).plain == measured(tmp_path)
    assert server.run(RUN).rewritten == 0
    assert server.run(RUN).summary["objective"] == 0.625


@pytest.mark.slow
def test_epochs_that_were_measured_offline_are_filled_in(server, tell, tmp_path):
    server.fail("refuse")
    tell(1, 3).communicate(timeout=40)
    server.heal()
    tell(4, 5, "--ends").communicate(timeout=40)
    assert server.run(RUN).plain == measured(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuse", "break", "hang"])
def test_a_server_that_fails_at_the_start_sends_the_search_offline(server, tell, tmp_path, fault):
    server.fail(fault)
    start = time.monotonic()
    out, err = tell(1, 3, "--ends").communicate(timeout=40)
    assert time.monotonic() - start < 25
    assert json.loads(out)["telling"] < 0.5
    assert err.startswith("mtlsearch: W&B does not answer (")
    assert ("(the server refuses (403))" in err) == (fault == "refuse")
    assert err.endswith(f"the folder has everything, send the rest with: mtlsearch sync {tmp_path}\n")
    assert err.count("\n") == 1
    (path,) = current_files(tmp_path)
    lines = history(finished(path))
    assert [{name: line[name] for name in line if name != "_step"} for line in lines] == measured(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "only"), [("refuse", ""), ("refuse", "file_stream"), ("break", ""), ("hang", ""), ("hang", "file_stream")]
)
def test_a_server_that_fails_in_the_middle_loses_nothing(server, tell, tmp_path, fault, only):
    process = tell(1, 4, "--ends", "--stop-at", 2)
    assert process.stdout is not None
    assert process.stdout.readline() == "epoch 2\n"
    deadline = time.monotonic() + 30
    while RUN not in server.runs:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.fail(fault, only=only)
    start = time.monotonic()
    out, err = process.communicate("go on\n", timeout=40)
    took = time.monotonic() - start
    assert took < 25
    assert json.loads(out)["telling"] < 0.5
    assert len(measured(tmp_path)) == 4
    assert err.startswith("mtlsearch: W&B ")
    assert err.endswith(f"the folder has everything, send the rest with: mtlsearch sync {tmp_path}\n")
    assert err.count("\n") == 1
    server.heal()
    tell(5, 5, "--ends").communicate(timeout=40)
    assert server.run(RUN).plain == measured(tmp_path)

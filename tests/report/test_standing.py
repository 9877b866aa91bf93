"""How a search stands, and its end from another terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtlsearch.folder import ExperimentFolder
from mtlsearch.report.standing import read_standing

Mtlsearch = Callable[..., Any]
WriteSpace = Callable[..., Path]
SLOW = {"space": "{model: {kind: shared_bottom, hidden: 4}, batch_size: 4}", "budget": "{trials: 3, epochs: 30}"}


def test_a_search_that_has_ended(mtlsearch: Mtlsearch, space_file: WriteSpace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mtlsearch("run", space_file(), "--engine", "local", "--trials", 2, "--out", out)
    shown = mtlsearch("status", out)
    assert (shown.code, shown.err) == (0, "")
    assert "driver: not running" in shown.out
    assert "trials: 2 complete, of 2" in shown.out
    assert "baseline trials: 4 of 4 begun have ended" in shown.out
    facts = json.loads(mtlsearch("status", out, "--format", "json").out)
    assert (facts["counts"], facts["driver"], facts["eta"], facts["ranks"]) == ({"COMPLETE": 2}, None, None, [])
    board = json.loads(mtlsearch("leaderboard", out, "--format", "json").out)
    assert facts["best"] == max(row["objective"] for row in board if row["role"] == "trial")
    refused = mtlsearch("status", out, "--format", "csv")
    assert (refused.code, refused.err) == (2, "mtlsearch: --format of a status must be table or json, found csv.\n")
    nobody = mtlsearch("stop", out)
    assert nobody.code == 2
    assert nobody.err == f"mtlsearch: {out} must be searched now to be stopped, but nobody drives it.\n"
    assert not ExperimentFolder(out).stop.exists()


def test_what_is_no_experiment_has_no_standing(mtlsearch: Mtlsearch, tmp_path: Path) -> None:
    for command in ("status", "stop"):
        ended = mtlsearch(command, tmp_path)
        assert ended.code == 2
        assert "is no experiment" in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_search_is_ended_from_elsewhere_and_goes_on(
    mtlsearch: Mtlsearch, space_file: WriteSpace, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mtlsearch", "run", str(space_file(objective="mean", **SLOW))]
    driver = subprocess.Popen([*command, "--engine", "local", "--out", str(out)], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while not list(out.glob("trials/*/metrics.jsonl")):
            assert time.monotonic() < end
            assert driver.poll() is None
            time.sleep(0.05)
        standing = read_standing(ExperimentFolder(out))
        assert standing.driver == str(driver.pid)
        assert standing.counts == {"RUNNING": 1}
        if how == "stop":
            stopped = mtlsearch("stop", out)
            assert (stopped.code, stopped.out) == (0, f"stopped. Go on with: mtlsearch resume {out}\n")
        else:
            os.kill(driver.pid, signal.SIGTERM)
        _, said = driver.communicate(timeout=60)
        assert driver.returncode == 130
        assert f"Go on with: mtlsearch resume {out}" in said
        assert read_standing(ExperimentFolder(out)).driver is None
    finally:
        driver.kill()
    before = (out / "trials" / "00000" / "metrics.jsonl").read_text()
    ended = mtlsearch("resume", out, "--engine", "local")
    assert ended.code == 0, ended.err
    assert (out / "trials" / "00000" / "metrics.jsonl").read_text().startswith(before)

"""`mtlsearch report`: where it writes, what it refuses, and that it can be made at any time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest_report import MadeUp, binary_tasks

from mtlsearch.folder import ExperimentFolder

pytestmark = pytest.mark.slow

Mtlsearch = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    return MadeUp(tmp_path / "out", binary_tasks(2), epochs=2).write(["COMPLETE", "RUNNING"])


def test_one_file_in_the_experiments_folder(mtlsearch: Mtlsearch, folder: ExperimentFolder) -> None:
    ended = mtlsearch("report", folder.path)
    assert (ended.code, ended.err) == (0, "")
    path = folder.path / "report.html"
    assert ended.out == f"{path}\n"
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert "src=" not in text.split("<script")[0]
    assert mtlsearch("report", folder.path).code == 0  # ours: it is made anew
    assert not list(folder.path.glob(".report*"))


def test_pictures_in_plots(mtlsearch: Mtlsearch, folder: ExperimentFolder) -> None:
    ended = mtlsearch("report", folder.path, "--format", "png")
    assert ended.code == 0
    written = [Path(line) for line in ended.out.splitlines()]
    assert {path.parent for path in written} == {folder.path / "plots"}
    assert {"history", "states", "curves"} <= {path.stem for path in written}


def test_elsewhere_and_nothing_is_replaced_without_force(
    mtlsearch: Mtlsearch, folder: ExperimentFolder, tmp_path: Path
) -> None:
    out = tmp_path / "mine.html"
    assert mtlsearch("report", folder.path, "--out", out).code == 0
    out.write_text("mine")
    refused = mtlsearch("report", folder.path, "--out", out)
    assert refused.code == 2
    assert refused.err == f"mtlsearch: --out {out} exists. Choose another, or replace it with --force.\n"
    assert out.read_text() == "mine"
    assert mtlsearch("report", folder.path, "--out", out, "--force").code == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize(
    ("out", "more", "said"),
    [
        (".", (), "--out must be a file"),
        ("no/such/report.html", (), "--out must be in a folder that exists"),
        ("file", ("--format", "png", "--force"), "--out must be a folder"),
        ("full", ("--format", "png"), "exists. Choose another"),
    ],
)
def test_places_that_cannot_be(
    mtlsearch: Mtlsearch, folder: ExperimentFolder, tmp_path: Path, out: str, more: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    refused = mtlsearch("report", folder.path, "--out", tmp_path / out, *more)
    assert refused.code == 2
    assert said in refused.err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("missing", ["plan.json", "space.yaml", "schema.json"])
def test_a_half_written_folder(mtlsearch: Mtlsearch, folder: ExperimentFolder, missing: str) -> None:
    (folder.path / missing).unlink()
    refused = mtlsearch("report", folder.path)
    assert refused.code == 2
    assert missing in refused.err
    assert refused.err.count("\n") == 1
    assert "Traceback" not in refused.err
    assert not (folder.path / "report.html").exists()


def test_no_experiment_at_all(mtlsearch: Mtlsearch, tmp_path: Path) -> None:
    assert mtlsearch("report", tmp_path / "none").code == 2
    assert "is not a folder" in mtlsearch("report", tmp_path / "none").err
    assert "is no experiment" in mtlsearch("report", tmp_path).err


def test_a_journal_that_is_damaged(mtlsearch: Mtlsearch, folder: ExperimentFolder) -> None:
    folder.journal.write_text("nonsense\n" + folder.journal.read_text())
    refused = mtlsearch("report", folder.path)
    assert refused.code == 2
    assert "study.journal" in refused.err


def test_of_a_search_that_has_really_run(mtlsearch: Mtlsearch, space_file: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "search"
    assert mtlsearch("run", space_file(), "--out", out, "--engine", "local").code == 0
    (out / "trials" / "00005" / "test.json").unlink(missing_ok=True)  # as after a crash
    with (out / "trials" / "00005" / "metrics.jsonl").open("a") as log:
        log.write('{"epoch": 3, "ob')
    assert mtlsearch("report", out).code == 0
    text = (out / "report.html").read_text()
    assert "dep_late15" in text
    assert "4 complete" in text

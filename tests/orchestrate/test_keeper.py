"""Checkpoints of hosts that do not see the experiment's folder, kept by an actor on the driver's host."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtlsearch.folder import ExperimentFolder

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.filterwarnings("default"),  # Ray's own warnings are not ours to mend
]


@pytest.fixture
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """The actor of an experiment in `tmp_path`."""
    import ray

    from mtlsearch.orchestrate.keeper import start_keeper

    actor = start_keeper(tmp_path, f"keeper of {request.node.name}")
    yield actor
    ray.kill(actor)


@pytest.fixture
def files(request: pytest.FixtureRequest, keeper: Any) -> Any:
    """Trial 3's, as its rank 0 has them."""
    from mtlsearch.orchestrate.keeper import KeptFiles

    return KeptFiles(f"keeper of {request.node.name}", 3, timeout=60.0)


def test_what_a_rank_writes_is_in_the_experiments_folder(files: Any, tmp_path: Path) -> None:
    assert files.names() == []
    assert files.read("x.pt") is None
    files.write("x.pt", memoryview(b"weights"))
    files.write("y.pt", os.urandom(3_000_000))
    folder = ExperimentFolder(tmp_path).trial(3).checkpoints
    assert sorted(files.names()) == sorted(folder.names()) == ["x.pt", "y.pt"]
    assert files.read("x.pt") == folder.read("x.pt") == b"weights"
    assert files.read("y.pt") == folder.read("y.pt")
    files.remove("x.pt")
    files.remove("x.pt")
    assert folder.names() == ["y.pt"]


def test_a_full_disk_of_the_drivers_host_is_an_error_with_its_number_on_the_trials(small_disk: Path) -> None:
    import ray

    from mtlsearch.orchestrate.keeper import KeptFiles, start_keeper

    actor = start_keeper(small_disk, "keeper of a small disk")
    files = KeptFiles("keeper of a small disk", 3, timeout=60.0)
    files.write("x.pt", b"small")
    with pytest.raises(OSError, match="No space left on device on the driver's host") as full:
        files.write("x.pt", bytes(100_000))
    assert full.value.errno == errno.ENOSPC
    assert files.read("x.pt") == b"small"
    assert files.names() == ["x.pt"]
    ray.kill(actor)


def test_a_keeper_that_was_killed_comes_back_and_the_trial_does_not_notice(files: Any) -> None:
    files.write("x.pt", b"before")
    for pid in keepers():
        os.kill(pid, signal.SIGKILL)
    files.write("y.pt", b"after")
    assert sorted(files.names()) == ["x.pt", "y.pt"]
    assert files.read("x.pt") == b"before"


def keepers() -> list[int]:
    """Pids of the actors that live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_text().startswith("ray::Keeper"):
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
    return found


def test_a_trials_checkpoints_are_fenced_there_too(files: Any, keeper: Any, tmp_path: Path) -> None:
    import torch

    from mtlsearch.train import Checkpoints
    from mtlsearch.train.checkpoint import Checkpoint, Place

    def state(epoch: int) -> Checkpoint:
        return Checkpoint(epoch, {"weight": torch.ones(3)}, {}, {}, 0.5, epoch, {}, "")

    cut_off, successor = Checkpoints(files, 1), Checkpoints(files, 2)
    cut_off.save(state(1))
    assert successor.take_over() is not None
    cut_off.save(state(2))
    best = Checkpoints(ExperimentFolder(tmp_path).trial(3).checkpoints).best(torch.device("cpu"))
    assert best is not None
    assert best.epoch == 1
    assert sorted(files.names()) == [Place(1, 2, 0).name, Place(2, 1, 0).name]


def test_a_rank_that_does_not_see_the_folder_has_the_keeper(keeper: Any, request: Any, tmp_path: Path) -> None:
    """It sees it when it finds the driver's word there; another folder under the same name is none."""
    from mtlsearch.config import ResourcesConfig
    from mtlsearch.config.data import FlightsConfig
    from mtlsearch.folder.files import FolderFiles
    from mtlsearch.orchestrate.keeper import KeptFiles
    from mtlsearch.orchestrate.trainable import Setting

    def files(folder: Path) -> Any:
        name = f"keeper of {request.node.name}"
        setting = Setting(
            FlightsConfig(), ResourcesConfig(), folder, token="abc123", keeper=name, hub="", driver_place="/"
        )
        return setting._checkpoints()(3)

    assert isinstance(files(tmp_path / "elsewhere"), KeptFiles)
    (tmp_path / "drivers.json").write_text('[{"token": "another"}]')
    assert isinstance(files(tmp_path), KeptFiles)
    (tmp_path / "drivers.json").write_text('[{"token": "abc123"}]')
    assert isinstance(files(tmp_path), FolderFiles)

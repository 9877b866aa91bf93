"""A small data set that can be learned, as tensors; no files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest_train import learnable

from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.train import TensorData


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors, and the same sums on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data() -> TensorData:
    """Three tasks of which some labels are missing."""
    return learnable()


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    """A trial's folder, not begun."""
    return ExperimentFolder(tmp_path).trial(3)

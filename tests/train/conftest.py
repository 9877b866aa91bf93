"""A small data set that can be learned, as tensors; no files."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest_train import learnable

from mtlsearch.folder import ExperimentFolder, TrialFolder
from mtlsearch.train import TensorData


@pytest.fixture
def data() -> TensorData:
    """Three tasks of which some labels are missing."""
    return learnable()


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    """A trial's folder, not begun."""
    return ExperimentFolder(tmp_path).trial(3)

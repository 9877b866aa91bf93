"""What ranks tell of themselves."""

from __future__ import annotations

import pytest
import torch

from mtlsearch.orchestrate.hub import _gpu_use


class NotSupported(Exception):
    """What NVML raises of a share by MIG."""


@pytest.mark.parametrize("error", [ModuleNotFoundError("pynvml"), NotSupported("Not Supported")])
def test_a_gpu_that_does_not_tell_its_use_silences_no_rank(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A rank that is silent is taken for one that hangs, and ended."""

    def refuse() -> int:
        raise error

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 7)
    assert _gpu_use() == (None, 7)

"""Consecutive rows of a split as tensors: a whole split, or a window of one that is streamed.

Axes: N rows, F numeric columns, C categorical columns, L label columns, W tasks with weights; M steps one after
another, S numeric and D categorical columns a step, J label columns a step.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtlsearch.data import Split


class StepBlock(NamedTuple):
    """The steps of a block's sequences, as in `data.split.StepArrays`."""

    offset_N: Tensor
    """int64 [N + 1], from 0: row n's steps are offset[n] … offset[n + 1] - 1."""
    numeric_MS: Tensor
    categorical_MD: Tensor
    labels_MJ: Tensor


class Block(NamedTuple):
    """As in `data.split.Split`: labels in original units, NaN where missing."""

    numeric_NF: Tensor
    categorical_NC: Tensor
    labels_NL: Tensor
    weights_NW: Tensor
    steps: StepBlock | None = None

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.numeric_NF)

    @property
    def lengths(self) -> Tensor | None:
        """int64 [N]: steps of each sequence; None for a table."""
        return None if self.steps is None else self.steps.offset_N.diff()

    def to(self, device: torch.device) -> Block:
        """On the device; the copies are queued behind each other, not waited for, from memory that is pinned."""
        if device.type == "cpu":
            return self
        steps = None if self.steps is None else StepBlock(*_moved(self.steps, device))
        numeric_NF, categorical_NC, labels_NL, weights_NW = _moved(self[:4], device)
        return Block(numeric_NF, categorical_NC, labels_NL, weights_NW, steps)


def block_of(split: Split) -> Block:
    """A split's own memory, nothing copied: of a store, pages that all processes share."""
    steps = split.steps
    return Block(
        _view(split.numeric_NF),
        _view(split.categorical_NC),
        _view(split.labels_NL),
        _view(split.weights_NW),
        None
        if steps is None
        else StepBlock(
            _view(steps.offset_N), _view(steps.numeric_MS), _view(steps.categorical_MD), _view(steps.labels_MJ)
        ),
    )


def _moved(tensors: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    return (tensor.to(device, non_blocking=True) for tensor in tensors)


def _view(array: Any) -> Tensor:
    with warnings.catch_warnings():  # the pages are read-only, and nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)

"""Reads chunks of a split's files into buffers that are used again.

Axes: N rows of a part of a window, R parts, M steps, W columns of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import FileIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlsearch.data.extents import Extent, FileExtents, SplitExtents
from mtlsearch.errors import ConfigError, Where
from mtlsearch.train.block import Block, StepBlock

ROWS = ("numeric", "categorical", "labels", "weights")
STEPS = ("numeric", "categorical", "labels")


class Buffers:
    """One window's memory, by column."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self._flat: dict[str, Tensor] = {}
        self._copied: torch.cuda.Event | None = None

    def matrix(self, name: str, num_rows: int, extent: Extent) -> Tensor:
        """[num_rows, W] at the start of the column's memory, which grows when it must."""
        flat, wanted = self._flat.get(name), num_rows * extent.width
        if flat is None or flat.numel() < wanted:
            self._flat.pop(name, None)  # before the larger one is asked for
            kind = torch.from_numpy(np.empty(0, extent.dtype)).dtype
            flat = self._flat[name] = torch.empty(wanted, dtype=kind, pin_memory=self._pinned)
        return flat[:wanted].view(num_rows, extent.width)

    def moved(self, block: Block, device: torch.device) -> Block:
        """The block on the device; from pinned memory the copy may still run."""
        there = block.to(device)
        if self._pinned:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        return there

    def wait(self) -> None:
        """Until a copy that still runs has ended."""
        if self._copied is not None:
            self._copied.synchronize()


class WindowReader:
    """Some parts of a window, of which the r-th has the r-th of R equal pieces of each chunk; the rest of a division is
    left out."""

    def __init__(self, files: SplitExtents, parts: Sequence[int], num_parts: int) -> None:
        self._parts, self._num_parts = parts, num_parts
        self._rows = _File(files.rows)
        self._steps = None if files.steps is None else _File(files.steps)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._rows, self._steps):
            if file is not None:
                file.close()

    def read(self, chunks: Sequence[range], buffers: Buffers) -> tuple[Block, Tensor | None]:
        """These parts' rows, part by part, chunk by chunk; of sequences also length_RN of all parts.

        Raises:
            ConfigError: a file ends too early.
        """
        buffers.wait()
        pieces = [self._piece(chunk, part) for part in self._parts for chunk in chunks]
        numeric_NF, categorical_NC, labels_NL, weights_NW = self._rows.read(ROWS, pieces, buffers, "rows")
        block = Block(numeric_NF, categorical_NC, labels_NL, weights_NW)
        if self._steps is None:
            return block, None
        ends = [self._ends(chunk) for chunk in chunks]
        length_RN = np.concatenate([self._lengths(end_N) for end_N in ends], axis=1)
        offset_N = np.concatenate([np.zeros(1, np.int64), length_RN[self._parts].cumsum()])
        spans = [self._steps_of(end_N, part) for part in self._parts for end_N in ends]
        steps = StepBlock(torch.from_numpy(offset_N), *self._steps.read(STEPS, spans, buffers, "steps"))
        return block._replace(steps=steps), torch.from_numpy(length_RN)

    def _piece(self, chunk: range, part: int) -> range:
        share = len(chunk) // self._num_parts
        return chunk[part * share : (part + 1) * share]

    def _steps_of(self, end_N: NDArray[np.int64], part: int) -> range:
        """The piece's steps, of a chunk with these ends."""
        share = (len(end_N) - 1) // self._num_parts
        return range(int(end_N[part * share]), int(end_N[(part + 1) * share]))

    def _ends(self, chunk: range) -> NDArray[np.int64]:
        """Where the chunk's first row begins, then where each of its rows ends, in steps of the file."""
        end_N = np.zeros(len(chunk) + 1, np.int64)
        before = chunk.start > 0
        self._rows.fill("end", chunk.start - before, end_N[1 - before :])
        return end_N

    def _lengths(self, end_N: NDArray[np.int64]) -> NDArray[np.int64]:
        share = (len(end_N) - 1) // self._num_parts
        return np.diff(end_N)[: share * self._num_parts].reshape(self._num_parts, share)


class _File:
    def __init__(self, extents: FileExtents) -> None:
        self._path, self._columns = extents.path, extents.columns
        self._file = FileIO(extents.path)

    def close(self) -> None:
        self._file.close()

    def read(self, names: Sequence[str], pieces: Sequence[range], buffers: Buffers, part: str) -> list[Tensor]:
        """[N, W] of each column."""
        num_rows = sum(map(len, pieces))
        matrices = [buffers.matrix(f"{part}/{name}", num_rows, self._columns[name]) for name in names]
        for name, matrix in zip(names, matrices, strict=True):
            at, array = 0, matrix.numpy()
            for piece in pieces:
                self.fill(name, piece.start, array[at : at + len(piece)])
                at += len(piece)
        return matrices

    def fill(self, name: str, first_row: int, into: NDArray[np.generic]) -> None:
        """The column's rows from that one on."""
        if not into.size:
            return
        column = self._columns[name]
        self._file.seek(column.start + first_row * column.row_bytes)
        left = memoryview(into.reshape(-1).view(np.uint8).data)
        while left:
            if not (count := self._file.readinto(left)):
                raise ConfigError(
                    "the store's file must be whole, but ends too early. Remove its folder; it is made again.",
                    Where(self._path),
                )
            left = left[count:]

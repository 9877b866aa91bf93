"""A trial's ranks, seen from one of them. One rank needs no process group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlsearch.models import MultiTaskModel

CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """Which rank this is, of how many, and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @classmethod
    def join(cls, rank: int, size: int, address: str, device: torch.device, timeout: float) -> World:
        """Makes the process group that this process keeps for all its trials: NCCL on GPUs, gloo on CPUs.

        Args:
            address: `tcp://host:port` at which rank 0 listens.
            timeout: seconds after which a collective with a silent peer is an error.
        """
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=address,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
        return cls(rank, size, device)

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and speaks for the trial."""
        return self.rank == 0

    def wrap(self, model: MultiTaskModel) -> nn.Module:
        """The model, with gradients averaged over ranks in its backward pass."""
        if self.size == 1:
            return model
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor's sum over ranks, in its place; the same bits on every rank."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's mean over ranks, in one differentiable all-reduce."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]) / self.size
        reduced = dist_functional.all_reduce(flat)  # type: ignore[no-untyped-call]
        pieces = torch.split(reduced, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def gather_rows(self, rows: Tensor, num_rows: int) -> Tensor:
        """The whole [num_rows, …] tensor on every rank, of which this rank has the rows rank, rank + size, …"""
        if self.size == 1:
            return rows
        most = -(-num_rows // self.size)
        padded = torch.nn.functional.pad(rows, (0, 0, 0, most - len(rows)))
        everyone = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(everyone, padded.contiguous())
        return torch.stack(everyone, dim=1).flatten(0, 1)[:num_rows]

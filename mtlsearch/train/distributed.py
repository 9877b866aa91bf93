"""A trial's ranks, seen from one of them. One rank needs no process group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_functional
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

from mtlsearch.models import Inputs, MultiTaskModel
from mtlsearch.train.chunks import Draws, Found, in_chunks

CPU = torch.device("cpu")


MEETING_SECONDS = 120.0
"""Longest that ranks wait for each other at first, whatever the timeout: they import and load before they meet."""


class Seen(NamedTuple):
    """Of a batch."""

    outputs_PO: Tensor
    penalties: Mapping[str, Tensor]
    parting_KPH: Tensor | None = None
    """What the towers read, where the tasks' ways part there (see `MultiTaskModel.parting`)."""


class Trainee(nn.Module):
    """A model whose forward pass gives its regularisers too: DDP follows nothing but a forward pass.

    Args:
        chunks: of a batch's rows, that are computed one after the other; for a step that needs too much memory.
    """

    def __init__(self, model: MultiTaskModel, chunks: int = 1) -> None:
        super().__init__()
        self.model, self.chunks = model, chunks

    @cached_property
    def by_name(self) -> dict[str, nn.Parameter]:
        """Its parameters; listed once, not at every step."""
        return dict(self.named_parameters())

    @cached_property
    def own_names(self) -> frozenset[str]:
        """Of the parameters that belong to single tasks."""
        return frozenset(f"model.{name}" for name in self.model.own_names)

    @cached_property
    def last_shared_names(self) -> tuple[str, ...]:
        """Of the last shared layer's parameters."""
        return tuple(f"model.{name}" for name in self.model.last_shared_names)

    def forward(self, inputs: Inputs, task: int | None = None, *, is_chunk: bool = False) -> Seen | Tensor:
        """What a step sees; of one task, its outputs alone."""
        if self.chunks > 1 and not is_chunk:
            seen = self._in_chunks(inputs, task)
            return seen if task is None else seen.outputs_PO
        if task is not None:
            return self.model.of_task(task, inputs)
        with reads_of(self.model.parting) as read:
            outputs_PO, penalties = self.model.penalised(inputs)
        return Seen(outputs_PO, penalties, read[0] if read else None)

    def _in_chunks(self, inputs: Inputs, task: int | None) -> Seen:
        """Of one task without penalties. The tasks' ways part in each chunk, nowhere in the whole."""

        def run(parameters: Mapping[str, Tensor], some: Inputs) -> Found:
            found = functional_call(self, dict(parameters), (some, task), {"is_chunk": True})
            return (found, {}) if isinstance(found, Tensor) else (found.outputs_PO, found.penalties)

        parameters = dict(self.named_parameters())  # inside another `functional_call` these are not its own
        draws = Draws(self.model, inputs.numeric_BF.device)
        return Seen(*in_chunks(run, parameters, inputs, self.chunks, draws))


@contextmanager
def reads_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """What the module is called with inside, one tensor a call."""
    read: list[Tensor] = []
    if module is None:
        yield read
        return
    hook = module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        yield read
    finally:
        hook.remove()


@dataclass(frozen=True)
class World:
    """Which rank this is, of how many, and where it computes."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    chunks: int = 1
    """Parts of this rank's rows of a batch that are computed one after the other; for a step that needs too much
    memory, or a trial with fewer ranks than others. Gradients are the same."""
    most: int = 1
    """Ranks that the trial may have. With fewer, batches have the rows that they have with so many."""

    @classmethod
    def join(
        cls, rank: int, size: int, address: str, device: torch.device, timeout: float, *, shares_gpu: bool = False
    ) -> World:
        """Makes the process group that this process keeps for all its trials: NCCL on GPUs, gloo on CPUs.

        Args:
            address: `tcp://host:port` at which rank 0 listens.
            timeout: seconds after which a collective with a silent peer is an error.
            shares_gpu: whether other ranks may use the same GPU. NCCL refuses that; gloo, which copies what is sent to
                the CPU, does not, and has on GPUs all of the collectives below.
        """
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        patience = timedelta(seconds=max(timeout, MEETING_SECONDS))
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host, int(port), size, is_master=rank == 0, timeout=patience
        )
        dist.init_process_group(
            "nccl" if device.type == "cuda" and not shares_gpu else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
        return cls(rank, size, device)

    @property
    def num_parts(self) -> int:
        """Rows that a batch has at least, and parts that it is read in: whatever ranks there are, batches are alike."""
        return max(self.most, self.size)

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and speaks for the trial."""
        return self.rank == 0

    def wrap(self, model: MultiTaskModel) -> nn.Module:
        """The model as training sees it, with gradients averaged over ranks in its backward pass."""
        trainee = Trainee(model, self.chunks)
        if self.size == 1:
            return trainee
        device_ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(trainee, device_ids=device_ids, broadcast_buffers=False)

    def seed_draws(self, seed: int) -> None:
        """What layers draw on this rank's device; torch.manual_seed asks every device there could be, 50 µs a step."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor's sum over ranks, in its place; the same bits on every rank."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def least(self, tensor: Tensor) -> Tensor:
        """Each entry's least over ranks, in its place."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MIN)
        return tensor

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Each tensor's mean over ranks, in one differentiable all-reduce."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors]) / self.size
        reduced = dist_functional.all_reduce(flat)  # type: ignore[no-untyped-call]
        pieces = torch.split(reduced, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def tell(self, content: bytes | None) -> bytes | None:
        """Rank 0's content, on every rank."""
        if self.size == 1:
            return content
        size = torch.tensor([-1 if content is None else len(content)], device=self.device)
        dist.broadcast(size, 0)
        if int(size) < 0:
            return None
        buffer = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if content is not None:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()

    def gather(self, rows: Tensor) -> Tensor | None:
        """On rank 0 all ranks' [rows, …] one behind the other; None on the others. Ranks may have different counts."""
        if self.size == 1:
            return rows
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        most = max(int(count) for count in counts)
        padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])  # a collective has one shape
        everyone = [torch.empty_like(padded) for _ in range(self.size)] if self.is_main else None
        dist.gather(padded, everyone)
        if everyone is None:
            return None
        return torch.cat([each[: int(count)] for each, count in zip(everyone, counts, strict=True)])

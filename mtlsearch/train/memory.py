"""Memory that a step did not get, and how much of a GPU a rank may take."""

from __future__ import annotations

import errno
import re

import torch

_SAID = re.compile(
    r"DefaultCPUAllocator: (can't allocate|not enough) memory"
    r"|std::bad_alloc"
    r"|CUDA( driver)? error: out of memory"
    r"|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(INTERNAL_ERROR_HOST_)?ALLOC(ATION)?_FAILED"
)
"""Words of plain RuntimeErrors: torch has a class of its own for its CUDA allocator's failures alone."""

CONTEXT_BYTES = 768 << 20
"""What a process takes of a GPU beside torch's allocator, which is all that the limit is for: CUDA's context and the
code of kernels, about half a GB on recent GPUs, and some room for the libraries' own memory. Without it, processes
with shares of together 1 would ask for more than there is."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may go where this one did not: an allocation failed, on a CPU or on a GPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None


def limit_to_share(device: torch.device, share: float) -> None:
    """Lets this process allocate no more of the GPU than its share, so that none takes what is another's; more is a
    torch.OutOfMemoryError."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(fraction_of(share, total), device)


def fraction_of(share: float, total: int) -> float:
    """The allocator's part of a GPU of so many bytes: of a share so small that a context is most of it, still half."""
    return max(share - CONTEXT_BYTES / total, share / 2)

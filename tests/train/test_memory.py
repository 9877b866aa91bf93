"""What counts as memory that was not to be had; the errors are real ones, of processes with little memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from mtlsearch.train.memory import CONTEXT_BYTES, fraction_of, is_out_of_memory

GREEDY = {
    "one tensor": "torch.empty(1 << 40)",
    "many tensors": "[torch.ones(1 << 20) for _ in range(1000)]",
    "a step's activations": "deep(torch.ones(1 << 20, requires_grad=True)).sum().backward()",
    "a node in Python": "checkpoint(wide, torch.ones(5000, requires_grad=True), use_reentrant=False).sum().backward()",
    "bytes": "bytearray(1 << 40)",
    "an array": "numpy.ones(1 << 38)",
    "arrow": "pyarrow.allocate_buffer(1 << 40)",
    "a map": "mmap.mmap(-1, 1 << 40)",
}
LITTLE = """
import json, mmap, resource, sys
import numpy, pyarrow, torch
from torch.utils.checkpoint import checkpoint
from mtlsearch.train.memory import is_out_of_memory
torch.set_num_threads(1)
deep = torch.nn.Sequential(*[torch.nn.Sigmoid() for _ in range(99)])
wide = lambda x: (x[:, None] * x).sin()
few = torch.ones(1, requires_grad=True)
(deep(few) + checkpoint(wide, few, use_reentrant=False)).sum().backward()  # what is imported at first use, is imported
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (256 << 20), resource.RLIM_INFINITY))
found = {}
for name, greedy in json.loads(sys.argv[1]).items():
    try:
        exec(greedy)
    except Exception as error:
        found[name] = [type(error).__name__, is_out_of_memory(error)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def failures() -> dict[str, tuple[str, bool]]:
    """What each raised in a process that may have 256 MB more than it has."""
    command = [sys.executable, "-c", LITTLE, json.dumps(GREEDY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, tuple[str, bool]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize("name", GREEDY)
def test_memory_that_a_process_cannot_have(failures, name) -> None:
    raised, is_told = failures[name]
    assert is_told, raised


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_words_of_libraries_that_cannot_be_made_to_fail_here(error) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        OSError(28, "No space left on device"),
        ValueError("out of memory"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors(error) -> None:
    assert not is_out_of_memory(error)


def test_a_share_of_a_gpu_leaves_room_for_contexts() -> None:
    total = 80 << 30
    assert 4 * (fraction_of(0.25, total) * total + CONTEXT_BYTES) == pytest.approx(total)
    assert fraction_of(0.01, total) == pytest.approx(0.005), "most of it would be the context"

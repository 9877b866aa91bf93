"""One process of data.py: does one thing with a store, prints what it took as a line of JSON.

python benchmarks/data_probe.py epoch STORE memory|stream 8192   trains a small model for an epoch
python benchmarks/data_probe.py hold STORE|none                  an epoch of batches, then waits for standard input
python benchmarks/data_probe.py convert CONFIG CACHE             opens a data set (JSON), twice
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from mtlsearch.config import DataConfig, TrialConfig
from mtlsearch.data import Store, open_store
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialOrder
from mtlsearch.train import Checkpoints, TensorData, World, fit

CPU = torch.device("cpu")
HELD: list[Any] = []


def epoch(folder: str, feed: str, batch_size: str) -> dict[str, Any]:
    """A trial of one epoch with a small shared bottom, validation included."""
    store = Store.open(Path(folder))
    model = {"kind": "shared_bottom", "hidden": 32}
    order = TrialOrder(
        number=0,
        role="trial",
        config=TrialConfig.model_validate({"model": model, "batch_size": int(batch_size)}),
        seed=1,
        epochs=1,
        tasks=tuple(task.name for task in store.schema.tasks),
        metric="mean",
    )
    with tempfile.TemporaryDirectory() as home:
        checkpoints = Checkpoints(ExperimentFolder(Path(home)).trial(0).checkpoints)
        data, cpu = TensorData.load(store, CPU, feed), time.process_time()  # type: ignore[arg-type]
        (report,) = fit(order, data, checkpoints, World())
    assert report is not None
    return {
        "feed": feed,
        "description": data.description,
        "rows_per_s": report.metrics.samples_per_second,
        "seconds": report.metrics.seconds,
        "cpu_s": time.process_time() - cpu,
        "peak_rss_mb": _peak_mb(),
    }


def hold(folder: str) -> dict[str, Any]:
    """Loads, goes once through the training rows, and stays in the midst of the next epoch."""
    if folder == "none":
        return {"rows": 0}
    data = TensorData.load(Store.open(Path(folder)), CPU, "memory")
    rows = sum(batch.num_rows for batch in data.epoch(torch.Generator(), 8192, World()))
    HELD.append(data.epoch(torch.Generator(), 8192, World()))
    return {"rows": rows + next(HELD[0]).num_rows}


def convert(config: str, cache: str) -> dict[str, Any]:
    """From the source's files to a store, then the store again."""
    parsed: Any = TypeAdapter(DataConfig).validate_json(config)
    seconds, cpu = [], []
    for _ in range(2):
        start, used = time.perf_counter(), time.process_time()
        store = open_store(parsed, Path(cache))
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {
        "store": str(store.folder),
        "seconds": seconds[0],
        "cpu_s": cpu[0],
        "again_s": seconds[1],
        "again_cpu_s": cpu[1],
        "peak_rss_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Resident memory at its most, pages of mapped files included."""
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss begins with the parent's
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"epoch": epoch, "hold": hold, "convert": convert}[sys.argv[1]](*sys.argv[2:])), flush=True)
    if sys.argv[1] == "hold":
        sys.stdin.readline()

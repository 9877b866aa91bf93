"""From files to batches: how fast, and in how much memory.

    python benchmarks/data.py feeding|streaming|sharing|conversion|all --out benchmarks/results/data.json

Every measure but `feeding` is a process of its own (data_probe.py); contestants take turns. A part that is run again
replaces its record in the file, no other. `streaming` needs 14 GB of disk at full size, `sharing` 5 GB.

feeding: batches from memory, beside torch's DataLoader with its default collation over the same tensors.
streaming: an epoch of a table that is read window by window, beside the same one mapped into memory.
sharing: what a second process on the same store adds to the memory that is in use.
conversion: real files to a store (`--census DIR`, `--physionet2012 DIR`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from commands import circumstances, environment, run
from data_made_up import write_parquet, write_store
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

from mtlsearch.train import TensorData, World
from mtlsearch.train.block import block_of

HERE = Path(__file__).parent
PROBE = HERE / "data_probe.py"
BATCH = 1024
CENSUS_ROWS, CENSUS_NUMBERS, CENSUS_CATEGORIES = 199_523, 8, 30

Record = dict[str, Any]


# Feeding -----------------------------------------------------------------------------------------------


def feeding(options: argparse.Namespace, home: Path) -> Record:
    """CPU seconds per row of a census-sized store's batches, one thread."""
    torch.set_num_threads(1)
    store = write_store(home / "store", int(CENSUS_ROWS / 0.9), CENSUS_NUMBERS, CENSUS_CATEGORIES)
    data, block = TensorData.load(store, torch.device("cpu"), "memory"), block_of(store.split("train"))
    tensors = [tensor.clone() for tensor in (block.numeric_NF, block.categorical_NC, block.labels_NL)]
    loader = DataLoader(TensorDataset(*tensors), batch_size=BATCH, shuffle=True, num_workers=0)
    raw = []
    for repetition in range(options.repetitions):
        generator = torch.Generator().manual_seed(repetition)
        ours = _rows_per_cpu_second(lambda g=generator: (b.num_rows for b in data.epoch(g, BATCH, World())))
        theirs = _rows_per_cpu_second(lambda: (len(numeric) for numeric, *_ in loader))
        raw.append({"ours_rows_per_cpu_s": ours, "loader_rows_per_cpu_s": theirs, "ratio": ours / theirs})
    medians = {name: median(one[name] for one in raw) for name in raw[0]}
    return {
        "parameters": {"rows": data.num_rows("train"), "batch_size": BATCH, "repetitions": options.repetitions},
        "raw": raw,
        "medians": medians,
        "targets": [_target("times as many rows a second as a DataLoader", 20, medians["ratio"], at_least=True)],
    }


def _rows_per_cpu_second(batches: Callable[[], Iterator[int]]) -> float:
    start = time.process_time()
    rows = sum(batches())
    return rows / (time.process_time() - start)


# Streaming ---------------------------------------------------------------------------------------------


def streaming(options: argparse.Namespace, home: Path) -> Record:
    """Rows a second and peak memory of a trial's epoch, read in windows and mapped."""
    config = write_parquet(home / "parquet", options.rows, options.columns)
    converted = _probe(home, "convert", json.dumps(config), home / "cache")
    shutil.rmtree(home / "parquet")
    store = converted.pop("store")
    raw = [
        _probe(home, "epoch", store, feed, 8192) for _ in range(options.repetitions) for feed in ("memory", "stream")
    ]
    medians = {
        f"{feed}_{name}": median(one[name] for one in raw if one["feed"] == feed)
        for feed in ("memory", "stream")
        for name in ("rows_per_s", "cpu_s", "peak_rss_mb")
    }
    medians |= {"conversion_s": converted["seconds"], "conversion_peak_rss_mb": converted["peak_rss_mb"]}
    ratio = medians["stream_rows_per_s"] / medians["memory_rows_per_s"]
    return {
        "parameters": {"rows": options.rows, "columns": options.columns, "repetitions": options.repetitions},
        "raw": [converted, *raw],
        "medians": medians | {"ratio": ratio},
        "targets": [
            _target("MB at the peak of a streamed epoch", 1500, medians["stream_peak_rss_mb"]),
            _target("of the rows a second that memory gives", 0.7, ratio, at_least=True),
        ],
    }


# Sharing -----------------------------------------------------------------------------------------------


def sharing(options: argparse.Namespace, home: Path) -> Record:
    """Memory that only the second process has, beyond what a process without data has."""
    rows = int(options.gigabytes * 1e9 / 200)
    folder = home / "store"
    write_store(folder, rows, num_numeric=50)
    with _held(home, folder), _held(home, folder) as second, _held(home, "none") as without:
        found = {"with_data_mb": _unique_mb(second), "without_data_mb": _unique_mb(without)}
    added = found["with_data_mb"] - found["without_data_mb"]
    return {
        "parameters": {"rows": rows, "columns": 50, "store_mb": sum(f.stat().st_size for f in folder.iterdir()) / 1e6},
        "raw": [found],
        "medians": found | {"added_mb": added},
        "targets": [_target("MB that a second process adds", 100, added)],
    }


@contextmanager
def _held(home: Path, folder: Path | str) -> Iterator[int]:
    """The id of a process that has the store open and has read it once."""
    command = [sys.executable, str(PROBE), "hold", str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(home), text=True, **pipes) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{' '.join(command)} ended early")
        yield process.pid
        process.communicate("\n")


def _unique_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = [line.split() for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))]
    return sum(int(words[1]) for words in private) / 1024


# Conversion --------------------------------------------------------------------------------------------


def conversion(options: argparse.Namespace, home: Path) -> Record:
    """Seconds from real files to a store, and to open it again."""
    raw: list[Record] = []
    for repetition in range(options.repetitions):
        for source, folder in (("census", options.census), ("physionet2012", options.physionet2012)):
            if folder is not None:
                config = json.dumps({"source": source, "path": str(folder)})
                cache = home / f"{source}-{repetition}"
                raw.append({"source": source} | _probe(home, "convert", config, cache))
                del raw[-1]["store"]
                shutil.rmtree(cache)
    sources = sorted({one["source"] for one in raw})
    medians = {
        f"{source}_{name}": median(one[name] for one in raw if one["source"] == source)
        for source in sources
        for name in ("seconds", "cpu_s", "again_s", "again_cpu_s", "peak_rss_mb")
    }
    targets = []
    if "census" in sources:
        targets.append(_target("CPU seconds of census to a store", 6, medians["census_cpu_s"]))
        targets.append(_target("CPU seconds to open it again", 0.1, medians["census_again_cpu_s"]))
    if "physionet2012" in sources:
        targets.append(_target("CPU seconds of physionet2012 to sequences", 30, medians["physionet2012_cpu_s"]))
    return {
        "parameters": {"sources": sources, "repetitions": options.repetitions},
        "raw": raw,
        "medians": medians,
        "targets": targets,
    }


# All of it ---------------------------------------------------------------------------------------------


def _probe(home: Path, *words: object) -> Record:
    """What a process of its own, with one thread for arithmetic, says at its end."""
    command: Sequence[str] = [sys.executable, str(PROBE), *map(str, words)]
    result = run(command, environment(home) | {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}).expect(0)
    record: Record = json.loads(result.lines[-1][1])
    return record


def _target(name: str, wanted: float, found: float, *, at_least: bool = False) -> Record:
    is_reached = found >= wanted if at_least else found <= wanted
    return {"name": name, "target": f"{'≥' if at_least else '≤'} {wanted:g}", "found": found, "reached": is_reached}


PARTS = {"feeding": feeding, "streaming": streaming, "sharing": sharing, "conversion": conversion}


def measure(part: str, options: argparse.Namespace) -> Record:
    """One part in a folder that is removed."""
    record = {"command": f"python benchmarks/data.py {' '.join(sys.argv[1:])}"} | circumstances()
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=options.disk))
    try:
        return record | PARTS[part](options, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def show(records: dict[str, Record]) -> None:
    """The medians and the targets as tables."""
    console = Console()
    for part, record in records.items():
        table = Table("", "median", title=part, title_justify="left")
        for name, value in record["medians"].items():
            table.add_row(name, f"{value:.4g}")
        console.print(table)
    table = Table("target", "wanted", "found", "reached", title="targets", title_justify="left")
    for target in (target for record in records.values() for target in record["targets"]):
        table.add_row(target["name"], target["target"], f"{target['found']:.4g}", "yes" if target["reached"] else "NO")
    console.print(table)


def main() -> None:
    """Runs the chosen parts and writes each as soon as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*PARTS, "all"])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "data.json")
    parser.add_argument("--disk", type=Path, help="folder for what is made up; by default the system's temp folder")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--rows", type=int, default=20_000_000, help="streaming: of the table")
    parser.add_argument("--columns", type=int, default=50, help="streaming: of the table, labels included")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="sharing: of the table")
    parser.add_argument("--census", type=Path, help="conversion: folder of census-income.data and .test")
    parser.add_argument("--physionet2012", type=Path, help="conversion: folder of the challenge's files")
    options = parser.parse_args()
    records = {}
    for part in PARTS if options.part == "all" else [options.part]:
        records[part] = measure(part, options)
        before = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(before | {part: records[part]}, indent=1, ensure_ascii=False) + "\n")
    show(records)


if __name__ == "__main__":
    main()

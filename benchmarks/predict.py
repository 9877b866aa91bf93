"""From raw rows to predictions: how fast, and in how much memory.

    python benchmarks/predict.py --rows 10000000 --out benchmarks/results/predict.json

A table of 20 inputs, 15 numbers and 5 texts, is made up in Parquet (about 1.4 GB of disk at full size, with a CSV file
of a tenth of the rows), a small search trains on its first rows, and `mtlsearch predict` runs as a process of its own,
whose largest resident size counts. Limit: 10 million rows in less than 2 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from commands import circumstances, environment
from pyarrow import csv, parquet

NUMBERS, TEXTS, TOWNS = 15, 5, 50
CHUNK = 250_000
LIMIT_MB = 2000

PROBE = (
    "import resource, sys, time; from mtlsearch.cli import main; start = time.perf_counter()\n"
    "try: main()\n"
    "finally: print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
)

SPACE = """
name: predict
data: {{source: table, path: {path}, tasks: [
  {{column: late, kind: binary}}, {{column: kind, kind: multiclass}}, {{column: cost, kind: regression}}]}}
space: {{model: {{kind: mmoe, num_experts: 4, hidden: 64}}}}
search: {{sampler: random, pruner: none}}
objective: {{metric: mean}}
budget: {{trials: 1, epochs: 1}}
"""


def rows(count: int, seed: int) -> pa.Table:
    """Inputs and labels."""
    draw = np.random.default_rng(seed)
    numbers = draw.standard_normal((NUMBERS, count))
    columns: dict[str, Any] = {f"n{i:02}": numbers[i] for i in range(NUMBERS)}
    towns = pa.array([f"town {i}" for i in range(TOWNS)])
    for i in range(TEXTS):
        columns[f"t{i}"] = pa.DictionaryArray.from_arrays(draw.integers(0, TOWNS, count), towns).cast(pa.string())
    columns["late"] = (numbers[0] > 1).astype(np.int8)
    columns["kind"] = draw.choice(["a", "b", "c"], count)
    columns["cost"] = numbers[1] + numbers[2] ** 2
    return pa.table(columns)


def write_rows(path: Path, count: int) -> None:
    """A Parquet file, or CSV, in chunks."""
    first = rows(1, 0).schema
    with parquet.ParquetWriter(path, first) if path.suffix == ".parquet" else csv.CSVWriter(path, first) as writer:
        for start in range(0, count, CHUNK):
            writer.write_table(rows(min(CHUNK, count - start), start))


def measure(home: Path, data: Path, count: int) -> dict[str, float]:
    """One `mtlsearch predict` as a process of its own."""
    out = home / "out.parquet"
    command = [sys.executable, "-c", PROBE, "predict", str(home / "model"), str(data), "--out", str(out), "--force"]
    one_thread = environment(home) | {"OMP_NUM_THREADS": "1"}  # others may be using the machine
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=True)
    seconds, megabytes = map(float, done.stdout.splitlines()[-1].split())
    assert parquet.read_metadata(out).num_rows == count
    return {"seconds": seconds, "rows_per_second": count / seconds, "most_resident_mb": megabytes}


def main() -> None:
    """Makes the data, trains, predicts, writes the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = benchmark(options, Path(folder))
    text = json.dumps(record, indent=1) + "\n"
    if options.out is not None:
        options.out.write_text(text)
    sys.stdout.write(text)


def benchmark(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """All measures."""
    begun = time.time()
    write_rows(home / "train.parquet", 50_000)
    (home / "space.yaml").write_text(SPACE.format(path=home / "train.parquet"))
    mtlsearch = [sys.executable, "-c", "from mtlsearch.cli import main; main()"]
    for command in (
        ["run", str(home / "space.yaml"), "--engine", "local", "--out", str(home / "search")],
        ["export", str(home / "search"), "--out", str(home / "model")],
    ):
        subprocess.run([*mtlsearch, *command], check=True, env=environment(home), stdout=subprocess.DEVNULL)
    found = {}
    for name, count in (("rows.parquet", options.rows), ("rows.csv", options.rows // 10)):
        write_rows(home / name, count)
        raw = [measure(home, home / name, count) for _ in range(options.repetitions)]
        (home / name).unlink()
        medians = {key: median(one[key] for one in raw) for key in raw[0]}
        found[name.split(".")[1]] = {"rows": count, "raw": raw, "medians": medians}
    most = max(one["most_resident_mb"] for one in found["parquet"]["raw"])
    return {
        "circumstances": circumstances(),
        "parameters": {"columns": NUMBERS + TEXTS, "tasks": 3, "model": "mmoe, 4 experts of 64", "threads": 1},
        "measures": found,
        "targets": [
            {"name": "MB resident at most", "target": f"≤ {LIMIT_MB}", "found": most, "reached": most <= LIMIT_MB}
        ],
        "seconds": time.time() - begun,
    }


if __name__ == "__main__":
    main()

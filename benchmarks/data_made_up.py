"""Made-up tables of any size: as a store, or as Parquet for the `table` source. Written piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtlsearch.config import Task
from mtlsearch.data import DataSchema, Split, Store
from mtlsearch.data.arrow import SplitFiles
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.encoders import CategoricalEncoder, NumericEncoder

PIECE = 500_000
"""Rows written at a time."""


def write_parquet(folder: Path, num_rows: int, num_columns: int) -> dict[str, Any]:
    """Files of PIECE rows: numbers, a binary and a regression label. Returns the config of the `table` source."""
    folder.mkdir(parents=True)
    for number, rows in enumerate(_pieces(num_rows)):
        numeric_NF, labels_NL = _numbers(rows, num_columns - 2, number)
        columns = {f"x{index}": column for index, column in enumerate(numeric_NF.T)}
        columns |= {"clicked": labels_NL[:, 0], "amount": labels_NL[:, 1]}
        pq.write_table(pa.table(columns), folder / f"{number:04}.parquet", compression="NONE", use_dictionary=False)
    tasks = [{"column": "clicked", "kind": "binary"}, {"column": "amount", "kind": "regression"}]
    return {"source": "table", "path": str(folder), "tasks": tasks}


def write_store(folder: Path, num_rows: int, num_numeric: int, num_categorical: int = 0) -> Store:
    """A store: 90 % of the rows are for training."""
    folder.mkdir(parents=True)
    for name, share in zip(SPLITS, (0.9, 0.05, 0.05), strict=True):
        files, first = SplitFiles(folder, name), 0
        for number, rows in enumerate(_pieces(int(share * num_rows))):
            numeric_NF, labels_NL = _numbers(rows, num_numeric, number)
            categorical_NC = np.random.default_rng(number).integers(0, 20, (rows, num_categorical), dtype=np.int32)
            row_N, weights_NW = np.arange(first, first + rows), np.empty((rows, 0), np.float32)
            files.append(Split(name, numeric_NF, categorical_NC, labels_NL, weights_NW, row_N))
            first += rows
        files.finish()
    vocabulary = tuple(f"{index:02}" for index in range(18))
    schema = DataSchema(
        source="made-up",
        data_digest="made-up",
        tasks=(Task(name="clicked", kind="binary"), Task(name="amount", kind="regression")),
        numeric=tuple(NumericEncoder(name=f"x{index}", kind="none") for index in range(num_numeric)),
        categorical=tuple(
            CategoricalEncoder(name=f"c{index}", vocabulary=vocabulary) for index in range(num_categorical)
        ),
        label_mean=(0.0, 0.0),
        label_std=(1.0, 2.0),
        splits=(),
    )
    (folder / "schema.json").write_text(json.dumps(schema.model_dump(mode="json")))
    return Store.open(folder)


def _pieces(num_rows: int) -> list[int]:
    whole, rest = divmod(num_rows, PIECE)
    return [PIECE] * whole + [rest] * bool(rest)


def _numbers(rows: int, columns: int, seed: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    numeric_NF = draw.standard_normal((rows, columns), np.float32)
    clicked_N = numeric_NF[:, 0] + draw.standard_normal(rows, np.float32) > 0
    amount_N = 2 * numeric_NF[:, 1] + draw.standard_normal(rows, np.float32)
    return numeric_NF, np.stack([clicked_N, amount_N], axis=1).astype(np.float32)

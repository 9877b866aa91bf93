"""What crosses to the processes of a trial is what the driver has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from mtlsearch.config import DataConfig, ResourcesConfig
from mtlsearch.config.data import FlightsConfig
from mtlsearch.orchestrate.trainable import Setting

TABLE = {"source": "table", "path": "/t.csv", "tasks": [{"column": "y", "kind": "binary"}]}
LONG = {"id": "who", "time": "hour", "step": 2, "variable": "name", "value": "x", "static": ["sex"], "start": "zero"}


def crossed(data: DataConfig) -> DataConfig:
    resources = ResourcesConfig(workers_per_trial=2, timeout=7.5)
    sent = Setting(data, resources, Path("/out"), token="t", keeper="k", hub="h", driver_place="/here")
    setting = Setting.from_json(sent.json())
    assert setting == replace(sent, data=setting.data)
    return setting.data


@pytest.mark.parametrize(
    "data",
    [
        {"source": "flights", "tasks": ["late"]},
        {"source": "census", "path": "/c", "degree": "college", "drop": ["det_hh_summ"]},
        {"source": "synthetic_mmoe", "correlation": -0.5},
        {"source": "mimic3", "path": "/m"},
        {"source": "physionet2012", "path": "/p", "step": 2},
        {"source": "pcba", "path": "/b", "weights": True},
        TABLE,
        TABLE | {"split": "part", "group": "who", "time": "day", "drop": ["z"], "missing": ["-", ""]},
        TABLE | {"split": {"train": 0.5, "validation": 0.3, "test": 0.2, "seed": 3}},
        TABLE | {"sequence": {}},
        TABLE | {"sequence": LONG | {"channels": ["last"], "max_steps": 9, "static_path": "/s.csv"}},
    ],
)
def test_every_data_set_crosses(data: dict[str, Any]) -> None:
    config: DataConfig = TypeAdapter(DataConfig).validate_python(data)
    assert crossed(config) == config


@pytest.mark.parametrize(
    "column",
    [
        "auto",
        "number",
        "category",
        "drop",
        {"type": "drop"},
        {"type": "number", "encode": "log"},
        {"encode": {"kind": "quantile", "clip": None, "bins": 9, "indicator": False}},
        {"encode": {"clip": math.inf}},
    ],
)
def test_every_form_of_a_column_crosses(column: object) -> None:
    """Its defaults too, written out: what `drop` leaves unsaid is no contradiction once it is said."""
    config: DataConfig = TypeAdapter(DataConfig).validate_python(TABLE | {"columns": {"x": column}})
    assert crossed(config) == config


@pytest.mark.parametrize(
    "task",
    [
        {
            "column": "y",
            "kind": "binary",
            "positive": "yes",
            "weight": "w",
            "name": "why",
            "metric": "average_precision",
        },
        {"column": "y", "kind": "binary", "positive": 1.5},
        {"column": "y", "kind": "binary", "positive": True},
        {"columns": ["a", "b"], "kind": "multilabel", "name": "ab"},
        {"column": "y", "kind": "regression", "unit": "days"},
    ],
)
def test_every_form_of_a_task_crosses(task: dict[str, Any]) -> None:
    config: DataConfig = TypeAdapter(DataConfig).validate_python(TABLE | {"tasks": [task]})
    assert crossed(config) == config


def test_a_config_that_was_not_read_from_a_file_crosses() -> None:
    """None of its fields was set, not even the source, by which it is told apart."""
    assert crossed(FlightsConfig()) == FlightsConfig()

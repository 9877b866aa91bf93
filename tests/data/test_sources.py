"""Which tasks a data set offers, said without reading it."""

import subprocess
import sys

import pytest

from mtlsearch.config import CensusConfig, FlightsConfig
from mtlsearch.data import tasks_of
from mtlsearch.errors import ConfigError


def test_all_tasks_when_none_are_named() -> None:
    tasks = tasks_of(FlightsConfig())
    assert [(task.name, task.kind) for task in tasks] == [
        ("cancelled", "binary"),
        ("dep_late15", "binary"),
        ("arr_delay", "regression"),
        ("air_time", "regression"),
    ]


def test_the_named_tasks_in_their_order_though_the_folder_does_not_exist() -> None:
    config = CensusConfig(path="/nowhere", tasks=("age", "income"))
    assert [(task.name, task.kind) for task in tasks_of(config)] == [("age", "regression"), ("income", "binary")]


def test_an_unknown_task_is_answered_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        tasks_of(FlightsConfig(tasks=("canceled",)))
    assert str(error.value) == (
        "data.tasks: flights has no task 'canceled'; it has cancelled, dep_late15, arr_delay, air_time. "
        "Did you mean 'cancelled'?"
    )


def test_a_task_is_named_once() -> None:
    with pytest.raises(ConfigError, match="'income' is there twice"):
        tasks_of(CensusConfig(path="x", tasks=("income", "marital", "income")))


def test_asking_for_tasks_loads_neither_torch_nor_pyarrow_nor_numpy() -> None:
    program = (
        "import sys; from mtlsearch.config import FlightsConfig; from mtlsearch.data import tasks_of;"
        "tasks_of(FlightsConfig()); print(sorted({'torch', 'pyarrow', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

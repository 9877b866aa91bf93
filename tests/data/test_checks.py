"""What a source's columns must be, whichever source they come from."""

import numpy as np
import pytest

from mtlsearch.config import Task
from mtlsearch.data.checks import check_columns
from mtlsearch.data.columns import Columns
from mtlsearch.errors import ConfigError

ROWS = {"train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3])}
AGE = Task(name="age", kind="regression")


def check(numeric: list[float], age: list[float]) -> None:
    columns = Columns(
        numeric={"temp": np.array(numeric, np.float32)},
        categorical={},
        labels={"age": np.array(age, np.float32)},
        rows=ROWS,
    )
    check_columns(columns, [AGE], "people.csv")


def test_missing_values_are_no_fault() -> None:
    check([1, np.nan, 3, 4], [1, 2, np.nan, np.nan])


def test_an_infinite_value_is_named_by_column_and_row() -> None:
    with pytest.raises(ConfigError, match=r"^people.csv: column 'temp' must be finite, but data row 3 holds -inf"):
        check([1, 2, -np.inf, 4], [1, 2, 3, 4])
    with pytest.raises(ConfigError, match=r"column 'age' must be finite"):
        check([1, 2, 3, 4], [1, 2, 3, np.inf])


@pytest.mark.parametrize(("age", "found"), [([5, 5, 6, 7], "only 5"), ([np.nan] * 4, "no label at all")])
def test_a_task_without_two_different_training_labels(age: list[float], found: str) -> None:
    with pytest.raises(ConfigError, match=f"task 'age' needs .*, but they have {found}"):
        check([1, 2, 3, 4], age)

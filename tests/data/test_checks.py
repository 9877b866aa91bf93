"""What a source's columns must be, whichever source they come from."""

from pathlib import Path

import numpy as np
import pytest

from mtlsearch.data.checks import check_finite, check_rows
from mtlsearch.data.columns import Columns, Part
from mtlsearch.errors import ConfigError

FILE = Path("people.csv")


def columns(num_test: int) -> Columns:
    rows = {"train": np.arange(2), "validation": np.arange(2, 3), "test": np.arange(3, 3 + num_test)}
    return Columns.whole((), rows, Part({"temp": np.zeros(3 + num_test, np.float32)}, {}, {}))


def test_every_split_has_rows() -> None:
    check_rows(columns(1), FILE)
    with pytest.raises(ConfigError, match=r"^people.csv: every split must have rows, but test is empty"):
        check_rows(columns(0), FILE)
    with pytest.raises(ConfigError, match=r"^every split must have rows"):
        check_rows(columns(0), None)


def test_missing_values_are_no_fault() -> None:
    check_finite("temp", np.array([1, np.nan, 3], np.float32), 0, FILE)


def test_an_infinite_value_is_named_by_column_and_row() -> None:
    with pytest.raises(ConfigError, match=r"^people.csv: column 'temp' must be finite, but data row 103 holds -inf"):
        check_finite("temp", np.array([1, 2, -np.inf, 4], np.float32), 100, FILE)
    with pytest.raises(ConfigError, match=r"data row 2 holds inf"):
        check_finite("codes", np.array([[0, 1], [1, np.inf]], np.float32), 0, None)

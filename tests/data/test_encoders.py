"""How raw columns become numbers. Expected values are worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from mtlsearch.data.encoders import (
    CategoricalEncoder,
    NumericEncoder,
    encode_categorical,
    encode_numeric,
    fit_categorical,
    fit_numeric,
)

NAN = np.nan


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_number_is_standardised_by_the_values_that_are_there() -> None:
    encoder = fit_numeric("temp", floats(1, 3, NAN, 5, 7))  # mean 4, std √5
    assert (encoder.mean, encoder.signed_log, encoder.has_missing) == (4.0, False, True)
    assert encoder.std == pytest.approx(5**0.5)
    assert encoder.outputs == ("temp", "temp is missing")


def test_missing_becomes_0_and_its_indicator_1() -> None:
    encoder = NumericEncoder(name="temp", mean=4.0, std=2.0, has_missing=True)
    assert_allclose(encoder.encode(floats(6, NAN)), [[1, 0], [0, 1]])


def test_without_missing_training_values_there_is_no_indicator() -> None:
    encoder = fit_numeric("temp", floats(1, 3))
    assert_allclose(encoder.encode(floats(3, NAN)), [[1], [0]])


def test_outliers_are_clipped_at_8_standard_deviations() -> None:
    encoder = NumericEncoder(name="wind", mean=0.0, std=1.0)
    assert_allclose(encoder.encode(floats(-1e30, 7, 1048)), [[-8], [7], [8]])


def test_a_heavy_tail_is_logged_first() -> None:
    gains = np.zeros(100, np.float32)
    gains[:2] = 5178, 99999
    encoder = fit_numeric("gains", gains)
    assert encoder.signed_log
    assert encoder.mean == pytest.approx((np.log1p(5178) + np.log1p(99999)) / 100)


@pytest.mark.parametrize("column", [floats(0.1, 0.1, 0.1), floats(NAN, NAN), floats()])
def test_a_column_that_says_nothing_becomes_zeros(column: np.ndarray) -> None:
    assert_allclose(fit_numeric("constant", column).encode(column)[:, 0], np.zeros(len(column)), atol=1e-6)


def test_categories_count_from_2_in_sorted_order() -> None:
    encoder = fit_categorical("dest", pa.array(["IAH", "ATL", None, "IAH"]))
    assert encoder == CategoricalEncoder(name="dest", vocabulary=("ATL", "IAH"))
    assert encoder.cardinality == 4


def test_unseen_is_0_and_missing_is_1() -> None:
    encoder = CategoricalEncoder(name="dest", vocabulary=("ATL", "IAH"))
    assert encoder.encode(pa.array(["IAH", "MIA", None, "ATL"])).tolist() == [3, 0, 1, 2]


def test_a_category_that_is_always_missing() -> None:
    nothing = pa.array([None, None], pa.string())
    encoder = fit_categorical("dest", nothing)
    assert (encoder.cardinality, encoder.encode(nothing).tolist()) == (2, [1, 1])


def test_columns_stand_side_by_side_in_the_encoders_order() -> None:
    a = NumericEncoder(name="a", mean=0.0, std=1.0, has_missing=True)
    b = NumericEncoder(name="b", mean=1.0, std=1.0)
    numeric_NF = encode_numeric((b, a), {"a": floats(3, NAN), "b": floats(1, 2)}, num_rows=2)
    assert_allclose(numeric_NF, [[0, 3, 0], [1, 0, 1]])
    assert numeric_NF.dtype == np.float32

    dest = CategoricalEncoder(name="dest", vocabulary=("IAH",))
    categorical_NC = encode_categorical((dest,), {"dest": pa.array(["IAH", "?"])}, num_rows=2)
    assert (categorical_NC.tolist(), categorical_NC.dtype) == ([[2], [0]], np.int32)


def test_an_encoder_survives_json() -> None:
    encoder = fit_numeric("temp", floats(0.1, 0.7, NAN))
    assert NumericEncoder.model_validate_json(encoder.model_dump_json()) == encoder

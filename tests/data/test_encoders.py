"""How raw columns become numbers. Expected values are worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from mtlsearch.config import Encoding
from mtlsearch.data.encoders import BinEncoder, CategoricalEncoder, NumericEncoder, encode_categorical, encode_numeric
from mtlsearch.data.fitting import BinFit, CategoricalFit, Moments, NumericFit

NAN = np.nan


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def fit_numeric(name: str, *parts: np.ndarray, **encoding: object) -> NumericEncoder:
    fit = NumericFit(name, Encoding(**encoding))
    for part in parts:
        fit.add(part)
    return fit.encoder()


def fit_categorical(name: str, *parts: pa.Array) -> CategoricalEncoder:
    fit = CategoricalFit(name)
    for part in parts:
        fit.add(part)
    return fit.encoder()


def test_a_number_is_standardised_by_the_values_that_are_there() -> None:
    encoder = fit_numeric("temp", floats(1, 3, NAN, 5, 7))  # mean 4, std √5
    assert (encoder.mean, encoder.kind, encoder.indicator) == (4.0, "standardize", True)
    assert encoder.std == pytest.approx(5**0.5)
    assert encoder.outputs == ("temp", "temp is missing")


def test_missing_becomes_0_and_its_indicator_1() -> None:
    encoder = NumericEncoder(name="temp", kind="standardize", mean=4.0, std=2.0, indicator=True)
    assert_allclose(encoder.encode(floats(6, NAN)), [[1, 0], [0, 1]])


def test_without_missing_training_values_there_is_no_indicator() -> None:
    encoder = fit_numeric("temp", floats(1, 3))
    assert_allclose(encoder.encode(floats(3, NAN)), [[1], [0]])


def test_outliers_are_clipped_at_8_standard_deviations() -> None:
    encoder = fit_numeric("wind", floats(-1, 1))
    assert_allclose(encoder.encode(floats(-1e30, 7, 1048)), [[-8], [7], [8]])


def test_a_heavy_tail_is_logged_first() -> None:
    gains = np.zeros(100, np.float32)
    gains[:2] = 5178, 99999
    encoder = fit_numeric("gains", gains)
    assert encoder.kind == "log"
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
    a = NumericEncoder(name="a", kind="none", indicator=True)
    b = NumericEncoder(name="b", kind="standardize", mean=1.0)
    numeric_NF = encode_numeric((b, a), {"a": floats(3, NAN), "b": floats(1, 2)}, num_rows=2)
    assert_allclose(numeric_NF, [[0, 3, 0], [1, 0, 1]])
    assert numeric_NF.dtype == np.float32

    dest = CategoricalEncoder(name="dest", vocabulary=("IAH",))
    categorical_NC = encode_categorical((dest,), {"dest": pa.array(["IAH", "?"])}, {}, num_rows=2)
    assert (categorical_NC.tolist(), categorical_NC.dtype) == ([[2], [0]], np.int32)


@pytest.mark.parametrize("kind", ["standardize", "log", "quantile", "none"])
def test_every_kind_survives_json(kind: str) -> None:
    encoder = fit_numeric("temp", floats(0.1, 0.7, NAN), kind=kind)
    assert NumericEncoder.model_validate_json(encoder.model_dump_json()) == encoder


def test_as_it_is() -> None:
    encoder = fit_numeric("bit", floats(0, 1, 1e9), kind="none")
    assert encoder.encode(floats(0, -3, 1e9)).ravel().tolist() == [0, -3, 1e9]


def test_quantiles_follow_the_rank_and_not_the_size() -> None:
    """Φ⁻¹ of a rank: the median is 0, and what lies beyond the training values is as far out as their extremes."""
    column = np.random.default_rng(0).lognormal(size=9999).astype(np.float32)
    encoder = fit_numeric("dose", column, kind="quantile")
    encoded = encoder.encode(np.sort(column))[:, 0]
    assert (np.diff(encoded) >= 0).all()
    assert encoder.encode(floats(float(np.median(column))))[0, 0] == pytest.approx(0, abs=0.01)
    assert encoded.std() == pytest.approx(1, abs=0.01)
    assert encoder.encode(floats(1e9, -5))[:, 0].tolist() == [encoded[-1], encoded[0]]


def test_a_value_that_most_rows_share_has_the_middle_of_its_ranks() -> None:
    column = np.zeros(1000, np.float32)
    column[:200] = np.arange(1, 201)
    encoder = fit_numeric("gains", column, kind="quantile", clip=None)
    zero, most = encoder.encode(floats(0, 200))[:, 0]
    below = encoder.std * zero + encoder.mean
    assert below == pytest.approx(-0.2533, abs=0.01)  # Φ⁻¹(.4): zeros have the ranks 0 to .8
    assert most > 2


def test_the_same_encoder_from_one_part_or_from_many() -> None:
    column = np.random.default_rng(0).gamma(0.1, size=10_000).astype(np.float32) * 1000
    column[::5] = NAN
    for kind in ("auto", "standardize", "log", "quantile"):
        whole = fit_numeric("x", column, kind=kind)
        parts = fit_numeric("x", *np.split(column, [10, 11, 4000]), kind=kind)
        assert (whole.kind, whole.indicator) == (parts.kind, parts.indicator)
        assert_allclose(whole.encode(column), parts.encode(column), rtol=1e-5, atol=1e-6)
    cities = pa.array(["b", None, "a", "b", "c"])
    assert fit_categorical("city", cities) == fit_categorical("city", cities[:2], cities[2:])


def test_moments_of_a_stream_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).exponential(3, size=5000) + 7
    moments = Moments()
    for part in np.split(values, [1, 2, 300, 300, 4999]):
        moments.add(part)
    assert moments.mean == pytest.approx(values.mean())
    assert moments.std == pytest.approx(values.std())
    assert moments.skewness == pytest.approx((((values - values.mean()) / values.std()) ** 3).mean())


def test_an_indicator_can_be_declined() -> None:
    encoder = fit_numeric("dose", floats(1, NAN, 3), indicator=False)
    assert encoder.outputs == ("dose",)
    assert encoder.encode(floats(NAN)).tolist() == [[0]]


def fit_bins(column: np.ndarray, num_bins: int) -> BinEncoder:
    fit = BinFit("gains", num_bins)
    fit.add(column)
    return fit.encoder()


def test_few_values_have_a_bin_each() -> None:
    encoder = fit_bins(floats(1, 1, 2, 4, NAN), 8)
    assert (encoder.name, encoder.cuts, encoder.cardinality) == ("gains bins", (1.5, 3.0), 5)
    assert encoder.encode(floats(-9, 1, 2, 3.1, NAN)).tolist() == [2, 2, 3, 4, 1]


def test_a_value_that_many_rows_share_has_a_bin_of_its_own() -> None:
    column = np.concatenate([np.zeros(900), np.arange(1, 101)]).astype(np.float32)
    encoder = fit_bins(column, 10)
    assert set(encoder.encode(column[:900])) == {2}
    _, counts = np.unique(encoder.encode(column[900:]), return_counts=True)
    assert len(counts) == 9
    assert counts.max() - counts.min() <= 2, "the others are cut at their quantiles"


def test_bins_stand_behind_the_categories() -> None:
    dest, gains = CategoricalEncoder(name="dest", vocabulary=("IAH",)), BinEncoder(column="gains", cuts=(0.5,))
    encoded_NC = encode_categorical(
        (dest, gains), {"dest": pa.array(["IAH", "IAH"])}, {"gains": floats(3, NAN)}, num_rows=2
    )
    assert encoded_NC.tolist() == [[2, 3], [2, 1]]

"""Binning to steps and summaries: by a plain loop over random measurements, and at the edges."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtlsearch.config.encoding import Encoding
from mtlsearch.data.sequences.binning import channel_columns, channel_encodings
from mtlsearch.data.sequences.blocks import blocks
from mtlsearch.data.sequences.measurements import Measurements, in_order, of_wide_rows
from mtlsearch.data.sequences.steps import Steps, fixed, until_last
from mtlsearch.data.sequences.summaries import summary_columns, summary_encodings

ALL = ("last", "mean", "measured")


def measured(rows: list[tuple[int, float, int, float]], num_sequences: int, num_variables: int = 1) -> Measurements:
    """Rows of sequence, time, variable, value."""
    sequence, time, variable, value = np.array(rows, float).reshape(-1, 4).T
    return in_order(
        Measurements(
            sequence.astype(int), time, variable.astype(int), value.astype(np.float32), num_sequences, num_variables
        )
    )


def only(measurements: Measurements, variable: int) -> Measurements:
    """Those of one variable."""
    is_K = measurements.variable_K == variable
    sequence_K, time_K = measurements.sequence_K[is_K], measurements.time_K[is_K]
    return Measurements(sequence_K, time_K, measurements.variable_K[is_K], measurements.value_K[is_K], 1, 3)


def plainly(measurements: Measurements, start: float, size: float, num_steps: int) -> dict[str, list[float]]:
    """The oracle: one sequence and variable, measurement by measurement."""
    found: dict[str, list[float]] = {"last": [], "mean": [], "measured": []}
    last = np.nan
    moments = list(zip(measurements.time_K, measurements.value_K, strict=True))
    for step in range(num_steps):
        inside = [value for time, value in moments if start + step * size <= time < start + (step + 1) * size]
        last = inside[-1] if inside else last
        found["last"].append(last)
        found["mean"].append(float(np.mean(inside)) if inside else last)
        found["measured"].append(float(bool(inside)))
    return found


@pytest.mark.parametrize("max_steps", [None, 3])
def test_binning_is_what_a_plain_loop_does(max_steps: int | None) -> None:
    random = np.random.default_rng(0)
    num_sequences, num_variables, size = 7, 3, 0.75
    rows = [
        (int(random.integers(num_sequences)), float(random.uniform(2, 9)), int(random.integers(num_variables)), i / 7)
        for i in range(120)
    ]
    measurements = measured(rows, num_sequences, num_variables)
    ends = [measurements.of(n, n + 1).time_K for n in range(num_sequences)]
    start_N, last_N = np.array([time[0] for time in ends]), np.array([time[-1] for time in ends])
    steps = until_last(start_N, last_N, size, max_steps)
    columns = channel_columns(measurements, steps, ("a", "b", "c"), ALL)
    for n in range(num_sequences):
        of_n = measurements.of(n, n + 1)
        num_steps = int((last_N[n] - start_N[n]) // size) + 1
        block = slice(steps.offsets()[n], steps.offsets()[n + 1])
        for variable, name in enumerate("abc"):
            one = only(of_n, variable)
            for channel, expected in plainly(one, start_N[n], size, num_steps).items():
                kept = expected if max_steps is None else expected[-max_steps:]
                assert_allclose(columns[f"{name} {channel}"][block], kept, rtol=1e-6)


def test_values_are_carried_within_a_sequence_alone() -> None:
    measurements = measured([(0, 0, 0, 5.0), (1, 2, 0, 7.0)], 2)
    columns = channel_columns(measurements, fixed(2, 4, 1.0), ("hr",), ALL)
    nan = np.nan
    assert_array_equal(columns["hr last"], [5, 5, 5, 5, nan, nan, 7, 7])
    assert_array_equal(columns["hr mean"], [5, 5, 5, 5, nan, nan, 7, 7])
    assert_array_equal(columns["hr measured"], [1, 0, 0, 0, 0, 0, 1, 0])
    assert all(column.dtype == np.float32 and column.flags.c_contiguous for column in columns.values())


def test_cut_off_steps_are_carried_into_the_first_that_is_left() -> None:
    measurements = measured([(0, 0, 0, 5.0), (0, 9, 1, 1.0), (1, 0, 1, 2.0)], 2, 2)
    steps = until_last(np.zeros(2), np.array([9.0, 0.0]), 1.0, max_steps=2)
    assert (steps.cut_N.tolist(), steps.length_N.tolist()) == ([8, 0], [2, 1])
    columns = channel_columns(measurements, steps, ("a", "b"), ALL)
    assert_array_equal(columns["a last"], [5, 5, np.nan])
    assert_array_equal(columns["b last"], [np.nan, 1, 2])
    assert_array_equal(columns["a measured"], [0, 0, 0])


def test_what_comes_before_time_zero_is_carried_in() -> None:
    measurements = measured([(0, -3, 0, 5.0), (0, 1, 0, 6.0), (1, -2, 0, 8.0)], 2)
    steps = until_last(np.zeros(2), np.array([1.0, -2.0]), 1.0)
    assert steps.length_N.tolist() == [2, 1]
    columns = channel_columns(measurements, steps, ("a",), ALL)
    assert_array_equal(columns["a last"], [5, 6, 8])
    assert_array_equal(columns["a measured"], [0, 1, 0])


def test_the_end_of_fixed_steps_belongs_to_the_last() -> None:
    columns = channel_columns(measured([(0, 2.0, 0, 3.0)], 1), fixed(1, 2, 1.0), ("a",), ("last",))
    assert_array_equal(columns["a last"], [np.nan, 3])


def test_rounding_does_not_move_a_moment_into_the_step_before() -> None:
    steps = Steps(np.zeros(1), 0.1, np.zeros(1, np.int64), np.array([10]))
    assert steps.at(np.zeros(3, int), np.array([0.3, 0.6, 0.7])).tolist() == [3, 6, 7]


def test_of_the_same_moment_the_later_one_is_the_last() -> None:
    measurements = measured([(0, 1, 0, 3.0), (0, 0, 0, 1.0), (0, 1, 0, 2.0)], 1)
    columns = channel_columns(measurements, fixed(1, 2, 1.0), ("a",), ALL)
    assert_array_equal(columns["a last"], [1, 2])
    assert_array_equal(columns["a mean"], [1, 2.5])


def test_wide_rows_are_measurements() -> None:
    value_RV = np.array([[1, np.nan], [np.nan, 2], [3, 4]], np.float32)
    measurements = of_wide_rows(np.array([0, 0, 1]), np.array([0, 1, 0]), value_RV, 2)
    assert measurements.sequence_K.tolist() == [0, 0, 1, 1]
    assert measurements.variable_K.tolist() == [0, 1, 0, 1]
    assert measurements.value_K.tolist() == [1, 2, 3, 4]


def test_summaries() -> None:
    measurements = measured([(0, 0, 0, 4.0), (0, 1, 0, 1.0), (0, 2, 0, 2.5), (1, 0, 1, 9.0)], 2, 2)
    columns = summary_columns(measurements, ("a", "b"))
    names = ("mean over all", "min over all", "max over all", "first of all", "last of all", "count over all")
    assert tuple(columns) == tuple(f"{variable} {name}" for variable in "ab" for name in names)
    assert [float(columns[f"a {name}"][0]) for name in names] == [2.5, 1, 4, 4, 2.5, 3]
    assert_array_equal([columns[f"a {name}"][1] for name in names], [np.nan] * 5 + [0])
    assert [float(columns[f"b {name}"][1]) for name in names] == [9, 9, 9, 9, 9, 1]


def test_encodings_have_one_indicator_where_one_is_enough() -> None:
    found = channel_encodings("hr", ALL, Encoding(kind="log"))
    assert {name: (each.kind, each.indicator) for name, each in found.items()} == {
        "hr last": ("log", True),
        "hr mean": ("log", False),
        "hr measured": ("none", False),
    }
    assert channel_encodings("hr", ("mean",))["hr mean"].indicator
    summaries = summary_encodings("hr")
    assert [name for name, each in summaries.items() if each.indicator] == ["hr mean over all"]
    assert not set(summaries) & set(found)


def test_blocks_hold_every_sequence_once() -> None:
    length_N = np.array([3, 1, 10**8, 2, 2])
    found = blocks(length_N, 37)
    assert [n for first, stop in found for n in range(first, stop)] == list(range(5))
    assert found == [(0, 2), (2, 3), (3, 5)]

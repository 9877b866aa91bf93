"""Who trains, validates and tests: shares, groups, times, or a column that says so."""

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from mtlsearch.config.table import FractionsConfig
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.table import source as source_module
from mtlsearch.data.table.shares import at_random, by_group, by_time

N = 60
X = np.arange(N) * 1.5
Y = [int(i % 3 == 0) for i in range(N)]

many = settings(deadline=None, derandomize=True, max_examples=100)
shares = st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.1, 0.1), (0.34, 0.33, 0.33)])


def fractions(three: tuple[float, float, float], seed: int = 0) -> FractionsConfig:
    return FractionsConfig(train=three[0], validation=three[1], test=three[2], seed=seed)


@many
@given(st.lists(st.integers(0, 2), min_size=1, max_size=200), shares, st.integers(0, 5))
def test_every_stratum_is_shared_out_exactly(strata: list[int], three, seed: int) -> None:
    stratum_N = np.array(strata, np.int8)
    split_N = at_random(stratum_N, fractions(three, seed))
    for stratum in set(strata):
        counts = np.bincount(split_N[stratum_N == stratum], minlength=3)
        assert np.abs(counts - counts.sum() * np.array(three)).max() <= 1
    assert_array_equal(split_N, at_random(stratum_N, fractions(three, seed)))


@many
@given(st.lists(st.integers(0, 20), min_size=3, max_size=200), shares)
def test_times_follow_each_other_and_equal_ones_stay_together(times: list[int], three) -> None:
    split_N = by_time(np.array(times), fractions(three))
    if len(set(times)) < 3:
        assert split_N is None
        return
    assert np.bincount(split_N, minlength=3).all(), "every split has rows"
    order = np.argsort(times, kind="stable")
    assert (np.diff(split_N[order]) >= 0).all()
    assert all(len(set(split_N[np.array(times) == time])) == 1 for time in times)


@many
@given(st.lists(st.integers(0, 30), min_size=3, max_size=200), shares, st.integers(0, 5), st.booleans())
def test_groups_never_straddle(groups: list[int], three, seed: int, timed: bool) -> None:
    group_N = np.unique(groups, return_inverse=True)[1].astype(np.int32)
    time_N = np.arange(len(groups))[::-1] if timed else None
    split_N = by_group(group_N, fractions(three, seed), time_N)
    if len(set(groups)) < 3:
        assert split_N is None
        return
    sizes = np.bincount(split_N, minlength=3)
    assert sizes.all()
    assert all(len(set(split_N[group_N == group])) == 1 for group in group_N)
    largest = np.bincount(group_N).max()
    assert abs(sizes[0] - three[0] * len(groups)) <= max(2 * largest, 3)
    assert_array_equal(split_N, by_group(group_N, fractions(three, seed), time_N))
    if timed:
        earliest = [min(time_N[(group_N == group)]) for group in range(group_N.max() + 1)]
        first = [max((e for g, e in enumerate(earliest) if split_N[group_N == g][0] == s)) for s in (0, 1)]
        then = [min((e for g, e in enumerate(earliest) if split_N[group_N == g][0] == s)) for s in (1, 2)]
        assert first[0] < then[0]
        assert first[1] < then[1]


def test_another_seed_gives_another_split(write_table, read_table) -> None:
    path = write_table({"x": X, "y": Y})
    first, again, other = (read_table(path, ("y", "binary"), split={"seed": seed}).rows for seed in (0, 0, 1))
    assert_array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], other["test"])
    assert_array_equal(np.sort(np.concatenate(list(first.values()))), np.arange(N))


def test_a_random_split_has_the_rarest_tasks_positives_everywhere(write_table, read_table) -> None:
    rare = [1 if i < 20 else None if i < 30 else 0 for i in range(1000)]
    path = write_table({"x": np.arange(1000) / 3, "y": [i % 2 for i in range(1000)], "rare": rare})
    columns = read_table(path, ("y", "binary"), ("rare", "binary"))
    (part,) = columns.parts()
    assert [int((part.labels["rare"][columns.rows[name]] == 1).sum()) for name in SPLITS] == [14, 3, 3]


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_the_split_and_the_rows_do_not_depend_on_the_parts(
    write_table, read_table, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_table({"x": X, "t": [f"c{i % 4}" for i in range(N)], "y": Y}, name)
    columns = read_table(path, ("y", "binary"))
    (whole,) = columns.parts()
    monkeypatch.setattr(source_module, "MOST_ROWS", 7)
    again = read_table(path, ("y", "binary"))
    parts = list(again.parts())
    assert len(parts) > 8
    for split in SPLITS:
        assert_array_equal(columns.rows[split], again.rows[split])
    assert_array_equal(np.concatenate([part.numeric["x"] for part in parts]), whole.numeric["x"])
    assert [t for part in parts for t in part.categorical["t"].to_pylist()] == whole.categorical["t"].to_pylist()


def test_a_column_may_say_the_split(write_table, read_table, fault) -> None:
    words = [("Training", "train", "val", "dev", "test", "testing")[i % 6] for i in range(N)]
    columns = read_table(write_table({"x": X, "y": Y, "s": words}), ("y", "binary"), split="s")
    assert_array_equal(columns.rows["validation"], [i for i in range(N) if i % 6 in (2, 3)])
    path = write_table({"x": X, "y": Y, "s": [*words[:-1], "holdout"]}, "table.csv")
    assert fault(path, split="s").startswith(
        "table.csv:61: column 's' must say train, validation or test, but data row 60 says 'holdout'."
    )
    path = write_table({"x": X, "y": Y, "s": [*words[:-1], None]})
    assert "data.split needs a value of 's' in every row, but data row 60 holds none" in fault(path, split="s")
    path = write_table({"x": X, "y": Y, "s": ["train", "val"] * 30})
    assert "every split must have rows, but test is empty" in fault(path, split="s")


def test_a_column_that_says_the_split_must_not_tear_groups(write_table, fault) -> None:
    path = write_table({"x": X, "y": Y, "s": ["train", "val", "test"] * 20, "g": [1, 2, 3] * 19 + [1, 2, 2]})
    assert "rows of equal 'g' must be in one split, but those of data row " in fault(path, split="s", group="g")


def test_by_group_and_time(write_table, read_table) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i // 2) for i in range(N)]
    path = write_table({"x": X, "y": Y, "who": [f"p{i // 6}" for i in range(N)], "day": days})
    for options in ({"time": "day"}, {"time": "day", "group": "who"}):
        rows = read_table(path, ("y", "binary"), **options).rows
        assert rows["train"].max() < rows["validation"].min()
        assert rows["validation"].max() < rows["test"].min()
    rows = read_table(path, ("y", "binary"), group="who").rows
    assert {len({row // 6 for row in rows[name]} & {row // 6 for row in rows["train"]}) for name in SPLITS[1:]} == {0}


@pytest.mark.parametrize(
    ("key", "values", "found"),
    [
        ("group", [1] * N, "a split by group needs at least 3 different values, one a split, but column 'g' has fewer"),
        ("group", ["a", "b"] * 30, "needs at least 3 different values"),
        ("group", [None, *range(N - 1)], "data.group needs a value of 'g' in every row, but data row 1 holds none"),
        ("group", [[1]] * N, "data.group needs texts or numbers, but column 'g' is of type list"),
        ("time", [*range(N - 1), np.nan], "data.time needs a value of 'g' in every row, but data row 60 holds none"),
        ("time", [0, 1] * 30, "a split by time needs at least 3 different values"),
        ("time", ["noon"] * N, "data.time needs numbers, dates or timestamps, but column 'g' is text"),
        ("split", [[1]] * N, "data.split: column 'g' must hold texts"),
        ("split", [0] * N, "must say train, validation or test, but data row 1 says '0'"),
    ],
)
def test_what_no_split_can_be_made_of(write_table, fault, key: str, values: list[object], found: str) -> None:
    assert found in fault(write_table({"x": X, "y": Y, "g": values}), **{key: "g"})


def test_too_few_rows(write_table, fault) -> None:
    assert "every split must have rows" in fault(write_table({"x": [1.5, 2, 3], "y": [0, 1, 0]}))

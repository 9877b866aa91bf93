"""How a store gets into trials: what is decided before there is a trial, and where columns lie in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtlsearch.config import FlightsConfig, ResourcesConfig
from mtlsearch.data import Store, open_store
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.extents import split_extents
from mtlsearch.data.feed import _cgroup_limits, choose_feed, in_bytes, machine_bytes, store_bytes
from mtlsearch.errors import ConfigError


@pytest.fixture(scope="module")
def store(small_flights: Path) -> Store:
    """The small flights."""
    return open_store(FlightsConfig(path=str(small_flights)))


@pytest.fixture
def large(store: Store, tmp_path: Path) -> Store:
    """As large as the machine's memory; a file with a hole needs no disk."""
    with (tmp_path / "train.arrow").open("wb") as file:
        file.truncate(machine_bytes())
    return Store(tmp_path, store.schema)


def test_a_small_store_is_mapped(store: Store) -> None:
    choice = choose_feed(store, ResourcesConfig())
    assert choice.kind == "memory"
    assert choice.sentence == f"in memory, {in_bytes(store_bytes(store))} mapped"


def test_a_store_that_memory_cannot_keep_is_streamed(large: Store) -> None:
    choice = choose_feed(large, ResourcesConfig())
    assert choice.kind == "stream"
    assert choice.sentence.startswith("streamed: ")
    assert choice.sentence.endswith(" GB in windows of 128 MB")


def test_the_space_file_has_the_last_word(store: Store, large: Store) -> None:
    assert choose_feed(store, ResourcesConfig(feed="stream")).kind == "stream"
    assert choose_feed(large, ResourcesConfig(feed="memory")).kind == "memory"


def test_a_trial_on_a_gpu_decides_when_it_sees_it(store: Store) -> None:
    said = choose_feed(store, ResourcesConfig(gpus_per_worker=1)).sentence
    assert "on each trial's GPU where it fits, else streamed" in said


def test_a_container_limits_memory(tmp_path: Path) -> None:
    """The limits of the group and of those around it; `max` is none."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "memory.max").write_text("4096\n")
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert _cgroup_limits(tmp_path, own) == [4096]
    own.write_text("0::/not/seen/from/inside\n")
    (tmp_path / "memory.max").write_text("8192\n")
    assert _cgroup_limits(tmp_path, own) == [8192]


@pytest.mark.parametrize(("size", "text"), [(12, "12 bytes"), (48 << 20, "48 MB"), (4.1 * (1 << 30), "4.1 GB")])
def test_sizes_are_said_in_three_digits(size: float, text: str) -> None:
    assert in_bytes(size) == text


@pytest.mark.parametrize("name", SPLITS)
def test_columns_lie_where_the_extents_say(store: Store, name: str) -> None:
    """Bytes read from there are the column."""
    split = store.split(name)  # type: ignore[arg-type]
    extents = split_extents(store.folder, name)  # type: ignore[arg-type]
    assert extents.steps is None
    assert extents.rows.num_rows == split.num_rows
    arrays = {"numeric": split.numeric_NF, "categorical": split.categorical_NC, "labels": split.labels_NL}
    for column, array in arrays.items():
        extent = extents.rows.columns[column]
        assert (extent.width, extent.row_bytes) == (array.shape[1], array.shape[1] * array.itemsize)
        row = split.num_rows // 2
        found = np.fromfile(extents.rows.path, extent.dtype, extent.width, offset=extent.start + row * extent.row_bytes)
        np.testing.assert_array_equal(found, array[row])
    assert extents.num_bytes <= store_bytes(store)


def test_a_file_that_is_cut_off_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "train.arrow").write_bytes(b"ARROW1")
    with pytest.raises(ConfigError, match="must be there and whole"):
        split_extents(tmp_path, "train")

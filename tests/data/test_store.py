"""The store: built once, shared, never half-written, and rebuilt when anything that matters changes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlsearch.config import CensusConfig, FlightsConfig
from mtlsearch.data import DataSchema, Store, open_store
from mtlsearch.data.columns import SPLITS
from mtlsearch.data.lock import locked
from mtlsearch.errors import ConfigError

WriteFlights = Callable[..., FlightsConfig]
WriteCensus = Callable[..., CensusConfig]


def leftovers(cache: Path) -> list[str]:
    """What lies in the cache besides locks and remembered hashes."""
    return sorted(path.name for path in (cache / "data").iterdir() if path.suffix != ".lock" and path.name != "hashes")


def test_arrays_are_typed_and_agree_with_the_schema(write_flights: WriteFlights, cache: Path) -> None:
    store = open_store(write_flights(), cache)
    for name in SPLITS:
        split, rows = store.split(name), store.schema.counts(name).num_rows
        assert (split.name, split.num_rows) == (name, rows)
        assert (split.numeric_NF.shape, split.numeric_NF.dtype) == ((rows, store.schema.num_numeric), np.float32)
        assert split.categorical_NC.shape == (rows, len(store.schema.cardinalities))
        assert split.categorical_NC.dtype == np.int32
        assert (split.labels_NL.shape, split.labels_NL.dtype) == ((rows, 4), np.float32)
        assert (split.row_N.shape, split.row_N.dtype) == ((rows,), np.int64)


def test_counts_of_the_small_flights(write_flights: WriteFlights, cache: Path) -> None:
    test = open_store(write_flights(), cache).schema.counts("test")
    assert test.num_rows == 8  # two months of four days, the third of which is cancelled
    assert test.missing == (0, 2, 2, 2)
    assert test.frequencies == ((2,), (4,), (), ())


def test_rows_name_the_lines_of_the_source(write_flights: WriteFlights, cache: Path) -> None:
    validation = open_store(write_flights(), cache).split("validation")
    assert validation.row_N.tolist() == list(range(32, 40))


def test_arrays_are_the_mapped_file_itself(write_flights: WriteFlights, cache: Path) -> None:
    """Nothing is copied: every array lies inside the file's mapping, contiguous and read-only."""
    store = open_store(write_flights(), cache)
    split = store.split("train")
    start, stop = mapping_of(store.folder / "train.arrow")
    for array in (split.numeric_NF, split.categorical_NC, split.labels_NL, split.row_N):
        assert start <= array.ctypes.data < array.ctypes.data + array.nbytes <= stop
        assert array.flags.c_contiguous
        assert not array.flags.writeable


def mapping_of(path: Path) -> tuple[int, int]:
    """The addresses between which this process has mapped a file."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc to see what is mapped")
    line = next(line for line in maps.read_text().splitlines() if line.endswith(str(path)))
    start, stop = line.split()[0].split("-")
    return int(start, 16), int(stop, 16)


def test_a_store_opens_by_its_folder_alone(write_census: WriteCensus, cache: Path) -> None:
    built = open_store(write_census(), cache)
    assert Store.open(built.folder).schema == built.schema


def test_the_schema_is_json_and_comes_back_equal(write_census: WriteCensus, cache: Path) -> None:
    store = open_store(write_census(tasks=("income", "age")), cache)
    text = (store.folder / "schema.json").read_text()
    assert json.loads(text)["source"] == "census"
    assert DataSchema.model_validate_json(text) == store.schema


def test_the_cache_folder_comes_from_the_environment(
    write_census: WriteCensus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLSEARCH_CACHE", str(tmp_path / "mine"))
    assert open_store(write_census()).folder.parent == tmp_path / "mine" / "data"


def test_the_second_open_converts_nothing(
    write_flights: WriteFlights, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_flights()
    first = open_store(config, cache)
    monkeypatch.setattr("mtlsearch.data.store.convert", None)
    start = time.perf_counter()
    assert open_store(config, cache) == first
    assert time.perf_counter() - start < 0.1


def test_a_copy_elsewhere_is_the_same_data_set(write_census: WriteCensus, cache: Path, tmp_path: Path) -> None:
    config = write_census()
    Path(config.path).rename(tmp_path / "moved")
    moved = config.model_copy(update={"path": str(tmp_path / "moved")})
    assert open_store(moved, cache).folder == open_store(write_census(), cache).folder


def test_options_and_tasks_make_another_store(write_census: WriteCensus, cache: Path) -> None:
    configs = (
        write_census(tasks=("education",)),
        write_census(tasks=("education",), degree="college"),
        write_census(tasks=("education", "income")),
    )
    assert len({open_store(config, cache).folder for config in configs}) == 3


def test_naming_all_tasks_is_naming_none(write_flights: WriteFlights, cache: Path) -> None:
    everything = write_flights(tasks=("cancelled", "dep_late15", "arr_delay", "air_time"))
    assert open_store(everything, cache).folder == open_store(write_flights(), cache).folder


def test_a_file_of_the_same_size_and_time_with_other_content_is_noticed(
    write_census: WriteCensus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlsearch.data.identity._SETTLED", -60.0)  # hashes are remembered at once
    config = write_census()
    first = open_store(config, cache)
    path = Path(config.path) / "census-income.test"
    status = path.stat()
    path.write_text(path.read_text().replace("52", "51", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert open_store(config, cache).folder != first.folder


def test_a_hash_is_remembered_once_the_file_has_settled(
    write_census: WriteCensus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_census()
    open_store(config, cache)
    assert not list((cache / "data" / "hashes").iterdir()), "written a moment ago, it may change within its time stamp"
    monkeypatch.setattr("mtlsearch.data.identity._SETTLED", -60.0)
    first = open_store(config, cache)
    monkeypatch.setattr("mtlsearch.data.identity._sha256", None)
    assert open_store(config, cache) == first


def test_encoders_are_learnt_from_the_training_rows_alone(write_flights: WriteFlights, cache: Path) -> None:
    before = open_store(write_flights(), cache).schema
    config = write_flights()
    path = Path(config.path or "") / "flights.csv"
    lines = path.read_text().splitlines()
    changed = [line.replace("1400", "9999").replace("UA", "ZZ") for line in lines[33:]]  # from September on
    path.write_text("\n".join([*lines[:33], *changed]) + "\n")
    after = open_store(config, cache)
    assert (after.schema.numeric, after.schema.categorical) == (before.numeric, before.categorical)
    carrier = after.schema.categorical_names.index("carrier")
    assert set(after.split("test").categorical_NC[:, carrier]) == {0}
    assert set(after.split("train").categorical_NC[:, carrier]) == {2}


def test_what_is_wrong_leaves_nothing_behind(write_census: WriteCensus, cache: Path) -> None:
    config = write_census(train=["1, 2"])
    with pytest.raises(ConfigError, match=r"census-income.data:1: every line must have 42 fields"):
        open_store(config, cache)
    assert leftovers(cache) == []


def test_a_disk_that_fills_up_leaves_nothing_behind(
    write_census: WriteCensus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mtlsearch.data.conversion.write_whole", full)
    with pytest.raises(ConfigError, match=r"No space left on device. Set MTLSEARCH_CACHE"):
        open_store(write_census(), cache)
    assert leftovers(cache) == []


def test_what_a_killed_process_left_is_cleared_away(write_census: WriteCensus, cache: Path) -> None:
    config = write_census()
    folder = open_store(config, cache).folder
    folder.rename(folder.with_suffix(".partial"))
    (folder.with_suffix(".partial") / "schema.json").unlink()
    assert open_store(config, cache).folder == folder
    assert leftovers(cache) == [folder.name]


def test_labels_of_one_class_are_refused(write_flights: WriteFlights, cache: Path) -> None:
    path = Path(write_flights().path or "") / "flights.csv"
    kept = [line for line in path.read_text().splitlines()[1:] if line.split(",")[3] != "NA"]
    with pytest.raises(
        ConfigError, match="task 'cancelled' needs training rows with different labels, but they have only 0"
    ):
        open_store(write_flights(kept), cache)


def test_an_empty_split_is_refused(write_flights: WriteFlights, cache: Path) -> None:
    path = Path(write_flights().path or "") / "flights.csv"
    kept = [line for line in path.read_text().splitlines()[1:] if int(line.split(",")[1]) < 11]
    with pytest.raises(ConfigError, match=r"flights.csv: every split must have rows, but test is empty"):
        open_store(write_flights(kept), cache)


def test_a_cache_that_is_a_file_is_refused(write_census: WriteCensus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="the cache folder must be writable"):
        open_store(write_census(), tmp_path / "file")


def test_damaged_stores_are_named(write_census: WriteCensus, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder must be a data store with schema.json"):
        Store.open(cache)
    store = open_store(write_census(), cache)
    arrow = store.folder / "test.arrow"
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"test.arrow: the store's file must be there and whole"):
        store.split("test")
    (store.folder / "schema.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"schema.json: the file must be a data set's schema"):
        Store.open(store.folder)


OPEN = """
import sys
from pathlib import Path
import mtlsearch.data.store as store
from mtlsearch.config import CensusConfig

convert = store.convert
def counted(*arguments):
    print("converted")
    convert(*arguments)

store.convert = counted
print(store.open_store(CensusConfig(path=sys.argv[1]), Path(sys.argv[2])).split("train").num_rows)
"""


def test_processes_that_start_together_build_it_once(write_census: WriteCensus, cache: Path) -> None:
    command = [sys.executable, "-c", OPEN, write_census().path, str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [words[-1] for words in said] == ["30"] * 4
    assert sum("converted" in words for words in said) == 1


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with locked(tmp_path / "lock"):
            order.append("second")

    with locked(tmp_path / "lock"):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "second"]

"""PCBA: bits, masks, weights, splits with and without a train file; on small files and on the real ones."""

import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mtlsearch.config import PcbaConfig
from mtlsearch.data.columns import Columns, Part
from mtlsearch.data.pcba import Pcba
from mtlsearch.data.pcba_tasks import NAMES
from mtlsearch.errors import ConfigError

TWO = (NAMES[0], NAMES[127])

Write = Callable[..., PcbaConfig]


def table(rows: Sequence[Sequence[object]], width: int) -> str:
    """A file with its numbered header."""
    return "\n".join(",".join(map(str, row)) for row in ([*range(width)], *rows)) + "\n"


def bits(*on: int) -> list[int]:
    """A molecule's fingerprint."""
    return [int(index in on) for index in range(1024)]


def molecules(num_rows: int) -> dict[str, str]:
    """Files whose labels take turns; one weight in three is 0."""
    return {
        "features": table([bits(row, 1023) for row in range(num_rows)], 1024),
        "y": table([[float((row + task) % 2) for task in range(128)] for row in range(num_rows)], 128),
        "w": table([[0.0 if row % 3 == 2 else 1.5 for _ in range(128)] for row in range(num_rows)], 128),
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the folder; `train=`, `val=`, `test=` replace a set's files by kind, `names=` the text of tasks.csv."""

    def write(
        names: str = "\n".join(["0", *NAMES]) + "\n",
        tasks: Sequence[str] | None = TWO,
        weights: bool = False,
        **sets: Mapping[str, str],
    ) -> PcbaConfig:
        for name, files in ({"val": molecules(20), "test": molecules(7)} | sets).items():
            for kind, text in files.items():
                (tmp_path / f"pcba_{name}_{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
        (tmp_path / "tasks.csv").write_text(names)
        return PcbaConfig(path=str(tmp_path), tasks=None if tasks is None else tuple(tasks), weights=weights)

    return write


def read(config: PcbaConfig) -> Columns:
    source = Pcba(config)
    return source.read([task for task in source.tasks if config.tasks is None or task.name in config.tasks])


def test_bits_are_inputs_as_they_are(write: Write) -> None:
    columns = read(write())
    val, _ = columns.parts()
    assert list(val.numeric) == [f"bit {index}" for index in range(1024)]
    assert val.numeric["bit 3"].tolist() == [float(row == 3) for row in range(20)]
    assert val.numeric["bit 1023"].tolist() == [1.0] * 20
    assert {(encoding.kind, encoding.indicator) for encoding in columns.encodings.values()} == {("none", False)}
    assert set(columns.encodings) == set(val.numeric)


def test_a_label_of_weight_0_is_missing(write: Write) -> None:
    val, test = read(write()).parts()
    assert_array_equal(val.labels[NAMES[0]][:6], [0, 1, np.nan, 1, 0, np.nan])
    assert_array_equal(test.labels[NAMES[127]][:6], [1, 0, np.nan, 0, 1, np.nan])


def test_weights_are_taken_only_when_asked_for(write: Write) -> None:
    assert next(iter(read(write()).parts())).weights == {}
    weighted: Part = next(iter(read(write(weights=True)).parts()))
    assert weighted.weights[NAMES[0]][:3].tolist() == [1.5, 1.5, 0]


def test_without_a_train_file_some_of_the_val_file_is_held_out(write: Write) -> None:
    columns = read(write(train={"y": molecules(3)["y"]}))
    rows = columns.rows
    assert rows["validation"].tolist() == PINNED
    assert sorted([*rows["train"], *rows["validation"]]) == list(range(20))
    assert rows["test"].tolist() == list(range(20, 27))
    assert columns.notes[0].startswith("No pcba_train_features.csv: 17 molecules of the val file are trained on")


PINNED = [1, 18, 19]
"""Written down, so that a new numpy cannot move molecules unnoticed."""


def test_files_are_the_splits_when_all_are_there(write: Write) -> None:
    config = write(train=molecules(9))
    columns = read(config)
    assert {name: (rows[0], rows[-1]) for name, rows in columns.rows.items()} == {
        "train": (0, 8),
        "validation": (9, 28),
        "test": (29, 35),
    }
    assert columns.notes == ()
    assert [len(part.labels[NAMES[0]]) for part in columns.parts()] == [9, 20, 7]
    assert [path.name for path in Pcba(config).files()][:2] == ["tasks.csv", "pcba_train_features.csv.gz"]


def test_tasks_that_cannot_be_learnt_are_named_all_at_once(write: Write) -> None:
    never = {0, 5}
    labels = [[0.0 if task in never else float(row % 2) for task in range(128)] for row in range(20)]
    with pytest.raises(ConfigError, match=rf"2 of 128 have none of one kind. Leave out: {NAMES[0]}, {NAMES[5]}\."):
        read(write(tasks=None, val=molecules(20) | {"y": table(labels, 128)}))


def test_every_part_is_read_anew(write: Write) -> None:
    columns = read(write())
    assert [part.numeric["bit 0"].sum() for part in columns.parts()] == [1, 1]
    assert [part.numeric["bit 0"].sum() for part in columns.parts()] == [1, 1]


def test_a_file_without_its_last_line_end(write: Write) -> None:
    short = molecules(7)["features"].removesuffix("\n")
    parts = read(write(test=molecules(7) | {"features": short})).parts()
    assert [len(part.numeric["bit 0"]) for part in parts] == [20, 7]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"features": table([bits(), bits()[1:]], 1024)},
            r"features.csv.gz:3: a line must be 1024 bits, .* has 1023",
        ),
        (
            {"features": table([bits(), [2, *bits()[1:]]], 1024)},
            r"features.csv.gz:3: a line must be .* one has '2'",
        ),
        ({"features": table([["1.0"] * 1024], 1024)}, r"features.csv.gz:2: a line must be .* this one has '1.0'"),
        ({"features": table([], 5)}, r"features.csv.gz:1: the header must number 1024 bits, .* 5 fields"),
        (
            {"features": table([bits()] * 6, 1024)},
            r"features.csv.gz: features and labels .* 6 and the labels 7",
        ),
        (
            {"y": table([[2.0] * 128] * 7, 128)},
            r"y.csv.gz:2: a number must be 0 or 1, .* \(PCBA-1030\) holds 2",
        ),
        ({"w": table([[1.0] * 128, [-1.0] * 128] * 7, 128)}, r"w.csv.gz:3: a number must be at least 0, .* holds -1"),
        ({"w": table([[1.0] * 128] * 6, 128)}, r"w.csv.gz: labels and weights must have .*_y.csv.gz has 7 .* file 6"),
        ({"y": table([[""] * 128] * 7, 128)}, r"y.csv.gz:2: column '0' must hold finite numbers"),
        ({"y": table([[0.0] * 12] * 7, 12)}, r"y.csv.gz:1: the header must name '127'"),
    ],
)
def test_a_wrong_file_is_named(write: Write, files: Mapping[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(read(write(test=molecules(7) | files)).parts())


def test_other_assays_are_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"tasks.csv:3: assay 1 must be PCBA-1379, but the file has PCBA-9"):
        read(write(names="0\nPCBA-1030\nPCBA-9\n"))
    with pytest.raises(ConfigError, match=r"the line 0 and then 128 assays, .* has 1 further lines"):
        read(write(names="0\nPCBA-1030\n"))


def test_a_missing_file_is_named(write: Write, tmp_path: Path) -> None:
    config = write()
    (tmp_path / "pcba_test_w.csv.gz").unlink()
    with pytest.raises(ConfigError, match=r"data.path must be a folder with pcba_test_w.csv \(or pcba_test_w.csv.gz\)"):
        Pcba(config).files()


@pytest.mark.slow
def test_the_real_counts(shared_data: Path) -> None:
    columns = read(PcbaConfig(path=str(shared_data / "pcba")))
    labels_NK = np.concatenate([np.stack([*part.labels.values()], axis=1) for part in columns.parts()])
    val_NK = labels_NK[: len(columns.rows["train"]) + len(columns.rows["validation"])]
    assert (len(val_NK), len(columns.rows["test"])) == (43_986, 43_987)
    assert round(float(np.isnan(val_NK).mean()), 3) == 0.396
    positives_K = (val_NK == 1).sum(axis=0)
    assert (positives_K.min(), np.median(positives_K), positives_K.max()) == (3, 105, 6389)
    assert (positives_K >= 100).sum() == 66
    first = next(iter(columns.parts()))
    assert round(float(np.mean([*first.numeric.values()])), 3) == 0.045

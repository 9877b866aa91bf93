"""From columns to a store: the same in one part or in many, rows and sequences."""

import mmap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtlsearch.config import Encoding, Task
from mtlsearch.data.arrow import read_split
from mtlsearch.data.columns import SPLITS, Columns, Part, SplitName, StepPart
from mtlsearch.data.conversion import fit_schema, write_splits
from mtlsearch.data.schema import DataSchema
from mtlsearch.data.split import Split
from mtlsearch.errors import ConfigError

N = 1000
TASKS = (
    Task(name="dead", kind="binary"),
    Task(name="worse", kind="binary", per_step=True),
    Task(name="codes", kind="multilabel", classes=("u", "v")),
    Task(name="left", kind="regression", per_step=True, unit="hours"),
    Task(name="ward", kind="multiclass", classes=("a", "b", "c")),
)
ROWS: dict[SplitName, np.ndarray] = {
    "train": np.arange(0, N, 2),
    "validation": np.arange(1, N, 4),
    "test": np.arange(3, N, 4),
}


class Hospital:
    """Sequences of one to four steps, beside two numbers, a category and labels of every kind."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.length_N = draw.integers(1, 5, N)
        self.offset_N = np.concatenate([[0], np.cumsum(self.length_N)])
        steps = int(self.offset_N[-1])
        self.age_N = draw.normal(60, 10, N).astype(np.float32)
        self.age_N[::7] = np.nan
        self.bill_N = draw.lognormal(3, 2, N).astype(np.float32)
        self.sex_N = pa.array(draw.choice(["f", "m"], N), mask=draw.random(N) < 0.1)
        self.pulse_M = draw.normal(80, 9, steps).astype(np.float32)
        self.drug_M = pa.array(draw.choice(["x", "y", "z"], steps))
        self.worse_M = (draw.random(steps) > 0.5).astype(np.float32)
        self.left_M = draw.normal(5, 2, steps).astype(np.float32)
        self.dead_N = (draw.random(N) > 0.5).astype(np.float32)
        self.dead_N[5] = np.nan
        self.ward_N = draw.integers(0, 3, N).astype(np.float32)
        self.codes_NL = (draw.random((N, 2)) > 0.5).astype(np.float32)

    def part(self, start: int, stop: int) -> Part:
        rows, steps = slice(start, stop), slice(self.offset_N[start], self.offset_N[stop])
        return Part(
            numeric={"age": self.age_N[rows], "bill": self.bill_N[rows]},
            categorical={"sex": self.sex_N[rows]},
            labels={"dead": self.dead_N[rows], "codes": self.codes_NL[rows], "ward": self.ward_N[rows]},
            weights={"dead": self.bill_N[rows]},
            steps=StepPart(
                self.length_N[rows],
                {"pulse": self.pulse_M[steps]},
                {"drug": self.drug_M[steps]},
                {"worse": self.worse_M[steps], "left": self.left_M[steps]},
            ),
        )


def build(folder: Path, cuts: Sequence[int] = (0, N)) -> tuple[DataSchema, dict[SplitName, Split]]:
    """A store of the hospital, read in parts that end at `cuts`."""
    hospital = Hospital()
    columns = Columns(
        TASKS,
        ROWS,
        lambda: (hospital.part(start, stop) for start, stop in pairwise(cuts)),
        encodings={"pulse": Encoding(kind="none"), "bill": Encoding(bins=16)},
        notes=("made",),
    )
    schema = fit_schema(columns, "toy", "digest", None)
    write_splits(columns, schema, folder)
    return schema, {name: read_split(folder, name) for name in SPLITS}


@pytest.mark.parametrize("cuts", [(0, 13, 14, 401, N), (0, 999, N)])
def test_the_parts_do_not_matter(tmp_path: Path, cuts: Sequence[int]) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    schema, whole = build(tmp_path / "whole")
    other_schema, parts = build(tmp_path / "parts", cuts)
    assert (schema.splits, schema.categorical, schema.notes) == (
        other_schema.splits,
        other_schema.categorical,
        ("made",),
    )
    for name in SPLITS:
        for field in ("numeric_NF", "categorical_NC", "labels_NL", "weights_NW", "row_N"):
            assert_allclose(getattr(parts[name], field), getattr(whole[name], field), rtol=1e-5, atol=1e-6)
        for field in ("offset_N", "numeric_MS", "categorical_MD", "labels_MJ"):
            assert_allclose(getattr(parts[name].steps, field), getattr(whole[name].steps, field), rtol=1e-5, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(
        [f"{name}{kind}.arrow" for name in SPLITS for kind in ("", ".steps")]
    ), "nothing stays beside the Arrow files"


def test_files_are_framed_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is the smallest piece that can be let go of."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "pieces").mkdir()
    build(tmp_path / "whole")
    monkeypatch.setattr("mtlsearch.data.arrow.PIECE", mmap.PAGESIZE)
    build(tmp_path / "pieces")
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "pieces" / path.name).read_bytes() == path.read_bytes()


def test_every_label_and_step_arrives_where_it_belongs(tmp_path: Path) -> None:
    hospital = Hospital()
    schema, splits = build(tmp_path, (0, 300, N))
    assert [task.name for task in schema.row_tasks] == ["dead", "codes", "ward"]
    assert [task.name for task in schema.step_tasks] == ["worse", "left"]
    assert schema.weighted == ("dead",)
    for name, split in splits.items():
        rows = ROWS[name]
        assert split.steps is not None
        assert_array_equal(split.row_N, rows)
        assert_array_equal(split.labels_NL[:, 0], hospital.dead_N[rows])
        assert_array_equal(split.labels_NL[:, 1:3], hospital.codes_NL[rows])
        assert_array_equal(split.labels_NL[:, 3], hospital.ward_N[rows])
        assert_array_equal(split.weights_NW[:, 0], hospital.bill_N[rows])
        for index in (0, 7, len(rows) - 1):
            steps = slice(split.steps.offset_N[index], split.steps.offset_N[index + 1])
            source = slice(hospital.offset_N[rows[index]], hospital.offset_N[rows[index] + 1])
            assert_array_equal(split.steps.numeric_MS[steps, 0], hospital.pulse_M[source])
            assert_array_equal(split.steps.labels_MJ[steps, 0], hospital.worse_M[source])
            assert_array_equal(split.steps.labels_MJ[steps, 1], hospital.left_M[source])
        assert split.steps.offset_N[-1] == schema.counts(name).num_steps


def test_numbers_can_be_categories_too(tmp_path: Path) -> None:
    schema, splits = build(tmp_path)
    assert [(encoder.name, encoder.cardinality) for encoder in schema.categorical] == [("sex", 4), ("bill bins", 18)]
    _, counts = np.unique(splits["train"].categorical_NC[:, 1], return_counts=True)
    assert counts.tolist() == pytest.approx([500 / 16] * 16, abs=1.1)


def test_labels_a_step_are_scaled_by_the_training_steps(tmp_path: Path) -> None:
    schema, splits = build(tmp_path)
    left = splits["train"].steps.labels_MJ[:, 1]  # type: ignore[union-attr]
    assert schema.label_mean[3] == pytest.approx(left.mean(), rel=1e-5)
    assert schema.label_std[3] == pytest.approx(left.std(), rel=1e-5)


def test_an_infinite_value_is_named_by_its_row() -> None:
    hospital = Hospital()
    hospital.bill_N[417] = np.inf
    columns = Columns(TASKS, ROWS, lambda: (hospital.part(0, 400), hospital.part(400, N)))
    with pytest.raises(ConfigError, match=r"column 'bill' must be finite, but data row 418 holds inf"):
        fit_schema(columns, "toy", "digest", None)

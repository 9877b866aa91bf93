"""PhysioNet 2012: both forms of its files, on small ones that the test makes and, where they are, on the real ones."""

import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

from mtlsearch.config.data import Physionet2012Config
from mtlsearch.data.columns import Columns, Part
from mtlsearch.data.physionet2012 import Physionet2012
from mtlsearch.errors import ConfigError

HEADER = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"
STAY = ("00:00,Age,54", "00:00,Gender,0", "00:00,Height,-1", "00:00,ICUType,4", "00:00,Weight,80.5")
"""Descriptors of a stay, as the challenge writes them."""
LINES = ("00:07,HR,73", "00:37,HR,77", "01:05,Temp,-17.8", "47:59,pH,735", "48:00,HR,60")

WriteStays = Callable[..., Path]


@pytest.fixture
def write_stays(tmp_path: Path) -> WriteStays:
    """Writes sets of two or more stays; `lines=` replaces those of the first stay of set a."""

    def write(sets: str = "abc", stays: int = 2, lines: tuple[str, ...] = (*STAY, *LINES)) -> Path:
        for number, name in enumerate(sets, start=1):
            folder = tmp_path / f"set-{name}"
            folder.mkdir(exist_ok=True)
            outcomes = [HEADER]
            for stay in range(stays):
                record = 100 * number + stay
                outcomes.append(f"{record},{stay or -1},{stay},{stay + 1},-1,{stay % 2}")
                body = lines if record == 100 else (*STAY, f"0{stay % 9}:30,HR,{60 + stay}")
                text = "\n".join(["Time,Parameter,Value", f"00:00,RecordID,{record}", *body]) + "\n"
                (folder / f"{record}.txt").write_text(text)
            (tmp_path / f"Outcomes-{name}.txt").write_text("\n".join(outcomes) + "\n")
        return tmp_path

    return write


def read(folder: Path, **options: object) -> Columns:
    source = Physionet2012(Physionet2012Config.model_validate({"path": str(folder), **options}))
    return source.read(source.tasks)


def one_part(columns: Columns) -> Part:
    (part,) = columns.parts()
    return part


def assert_same(left: Columns, right: Columns) -> None:
    a, b = one_part(left), one_part(right)
    assert a.steps is not None
    assert b.steps is not None
    both: tuple[tuple[Mapping[str, object], Mapping[str, object]], ...] = (
        (a.numeric, b.numeric),
        (a.labels, b.labels),
        (a.steps.numeric, b.steps.numeric),
        (left.rows, right.rows),
    )
    for mine, others in both:
        assert tuple(mine) == tuple(others)
        for name in mine:
            assert_array_equal(mine[name], others[name], err_msg=name)
    assert a.categorical == b.categorical


def test_steps_statics_and_labels(write_stays: WriteStays) -> None:
    part = one_part(read(write_stays()))
    assert part.steps is not None
    assert part.steps.length_N.tolist() == [48] * 6
    first = {name: column[:48] for name, column in part.steps.numeric.items()}
    assert len(first) == 37 * 3
    assert_array_equal(first["HR last"][:2], [77, 77])
    assert_array_equal(first["HR mean"][:2], [75, 77])
    assert_array_equal(first["HR measured"], [1, *[0] * 46, 1])
    assert first["HR last"][47] == 60  # measured at 48:00
    assert_allclose(first["Temp last"][[0, 1]], [np.nan, -17.8], rtol=1e-6)  # kept as it is
    assert_array_equal(first["Weight last"][[0, 47]], [80.5, 80.5])
    assert {name: float(part.numeric[name][0]) for name in ("age", "weight")} == {"age": 54, "weight": 80.5}
    assert np.isnan(part.numeric["height"]).all()
    assert (part.categorical["gender"][0].as_py(), part.categorical["ICU type"][0].as_py()) == ("female", "surgical")
    assert_array_equal(part.numeric["HR count over all"], [3, 1, 1, 1, 1, 1])
    assert_array_equal(part.labels["death"], [0, 1] * 3)
    assert_array_equal(part.labels["saps"], [np.nan, 1] * 3)
    assert_allclose(part.labels["length_of_stay"][:2], np.log([2, 3]), rtol=1e-6)


def test_longer_steps_and_no_summaries(write_stays: WriteStays) -> None:
    part = one_part(read(write_stays(), step=5, summaries=False))
    assert part.steps is not None
    assert part.steps.length_N[0] == 10
    assert tuple(part.numeric) == ("age", "height", "weight")


def test_sets_are_splits(write_stays: WriteStays) -> None:
    columns = read(write_stays())
    assert {name: rows.tolist() for name, rows in columns.rows.items()} == {
        "train": [0, 1],
        "validation": [2, 3],
        "test": [4, 5],
    }
    assert columns.notes == ()


def test_without_set_c_set_b_is_halved(write_stays: WriteStays) -> None:
    columns = read(write_stays("ab", stays=4))
    assert columns.rows["train"].tolist() == [0, 1, 2, 3]
    assert (len(columns.rows["validation"]), len(columns.rows["test"])) == (2, 2)
    assert columns.notes == ("Of sets b and c only b is there: one half of it validates, the other tests.",)


def test_set_a_alone_is_split_and_a_note_says_so(write_stays: WriteStays) -> None:
    columns = read(write_stays("a", stays=20))
    assert [len(columns.rows[name]) for name in ("train", "validation", "test")] == [14, 3, 3]
    assert sorted(np.concatenate(list(columns.rows.values()))) == list(range(20))
    assert "Set a alone is there" in columns.notes[0]


def test_lines_without_a_parameter_are_left_out_with_a_note(write_stays: WriteStays) -> None:
    columns = read(write_stays(lines=(*STAY, "01:00,,", "01:00,,-1", "02:00,HR,70")))
    assert columns.notes == ("2 lines without a parameter's name were left out.",)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("01:00,HR", "a line must have 3 fields, time, parameter and value, but this one has 2"),
        ("1:00,HR,70", "the time must be HH:MM from 00:00 to 48:00, but it is '1:00'"),
        ("48:01,HR,70", "the time must be HH:MM from 00:00 to 48:00, but it is '48:01'"),
        ("01:00,Hr,70", "the parameter must be one of .*, but it is 'Hr'"),
        ("01:00,HR,fast", "the value must be a finite number, but it is 'fast'"),
        ("01:00,HR,inf", "the value must be a finite number, but it is 'inf'"),
        ("01:00,HR,", "the value must be a finite number, but it is ''"),
        ("", "a line must have 3 fields, time, parameter and value, but this one has 1"),
    ],
)
def test_a_malformed_line_is_named(write_stays: WriteStays, line: str, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"set-a/100.txt:8: {found}"):
        read(write_stays(lines=(*STAY, line, "02:00,HR,70")))


def test_a_stay_needs_its_own_record(write_stays: WriteStays) -> None:
    folder = write_stays()
    (folder / "set-b" / "200.txt").rename(folder / "set-b" / "209.txt")
    with pytest.raises(ConfigError, match=r"Outcomes-b.txt: every record must have a text in set-b, but 200 has none"):
        read(folder)
    (folder / "set-b" / "200.txt").write_text((folder / "set-b" / "209.txt").read_text())
    with pytest.raises(ConfigError, match=r"Outcomes-b.txt: every stay must have a line, but 209 has none"):
        read(folder)
    (folder / "set-b" / "209.txt").unlink()
    (folder / "set-c" / "300.txt").write_text((folder / "set-b" / "200.txt").read_text())
    with pytest.raises(ConfigError, match=r"set-c/300.txt: the text must have a line `00:00,RecordID,300`"):
        read(folder)


def test_a_folder_without_sets_is_refused(tmp_path: Path, write_stays: WriteStays) -> None:
    with pytest.raises(ConfigError, match=r"data.path must be a folder with set-a and Outcomes-a.txt, or with stays"):
        read(tmp_path)
    folder = write_stays()
    (folder / "Outcomes-c.txt").unlink()
    with pytest.raises(ConfigError, match=r"Outcomes-c.txt: set-c must have this file beside it"):
        read(folder)


def test_another_text_is_refused(write_stays: WriteStays) -> None:
    folder = write_stays()
    (folder / "set-a" / "100.txt").write_text("time;parameter\n")
    with pytest.raises(ConfigError, match=r"100.txt:1: the first line must be Time,Parameter,Value, but it is 'time;"):
        read(folder)


def write_parquet(folder: Path, **changed: pa.Array) -> Path:
    """What write_stays writes, as two Parquet files."""
    stays: dict[str, object] = {
        "RecordID": [100, 101, 200, 201, 300, 301],
        "set": ["a", "a", "b", "b", "c", "c"],
        "in_hospital_death": [0, 1] * 3,
        "length_of_stay_days": [1, 2] * 3,
        "SAPS_I": [None, 1] * 3,
        "SOFA": [0, 1] * 3,
        "age": [54.0] * 6,
        "gender": [0] * 6,
        "height_cm": pa.array([None] * 6, pa.float32()),
        "admission_weight_kg": [80.5] * 6,
        "icu_type": [4] * 6,
    }
    rows = [
        (100, 7, "HR", 73),
        (100, 37, "HR", 77),
        (100, 65, "Temp", -17.8),
        (100, 2879, "pH", 735),
        (100, 2880, "HR", 60),
    ]
    rows += [(100 * n + stay, 60 * stay + 30, "HR", 60 + stay) for n in (1, 2, 3) for stay in (0, 1) if n + stay > 1]
    rows += [(record, 0, "Weight", 80.5) for record in (100, 101, 200, 201, 300, 301)]
    names = ("RecordID", "minute", "parameter", "value")
    measurements = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    measurements["value"] = pa.array(measurements["value"], pa.float32())
    folder.mkdir()
    tables = {"stays": stays, "measurements": measurements}
    for name, columns in tables.items():
        columns.update((key, value) for key, value in changed.items() if key in columns and key != "RecordID")
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def test_both_forms_are_the_same(write_stays: WriteStays) -> None:
    folder = write_stays()
    assert_same(read(folder), read(write_parquet(folder / "parquet")))


def test_a_parquet_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stays.parquet: column 'set' must be a, b or c, but 'd' is there too"):
        read(write_parquet(tmp_path / "1", set=pa.array(["a", "a", "b", "b", "c", "d"])))
    with pytest.raises(ConfigError, match=r"measurements.parquet: column 'parameter' must be one of .* but heart is"):
        read(write_parquet(tmp_path / "2", parameter=pa.array(["heart"] * 16)))
    with pytest.raises(ConfigError, match=r"gender must be one of 0 \(female\), 1 \(male\), but 2 is there too"):
        read(write_parquet(tmp_path / "3", gender=pa.array([0, 1, 2, 0, 0, 0])))
    folder = write_parquet(tmp_path / "4")
    table = parquet.read_table(folder / "stays.parquet")
    parquet.write_table(table.drop_columns(["SOFA"]), folder / "stays.parquet")
    with pytest.raises(ConfigError, match=r"stays.parquet: the file must have the columns .*, but SOFA is not there"):
        read(folder)
    parquet.write_table(table.slice(1), folder / "stays.parquet")
    with pytest.raises(ConfigError, match=r"must be in stays.parquet, but RecordID 100 is not"):
        read(folder)
    (folder / "stays.parquet").write_text("no parquet")
    with pytest.raises(ConfigError, match=r"stays.parquet: the file must be Parquet, but"):
        read(folder)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    """The challenge's stays, as Parquet, with a sample of their texts."""
    return shared_data / "physionet2012"


def test_the_real_sample_is_the_same_in_both_forms(real: Path, tmp_path: Path) -> None:
    with tarfile.open(real / "raw_sample_200_stays.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    texts = read(tmp_path)
    records = [int(path.stem) for path in (tmp_path / "set-a").iterdir()]
    (tmp_path / "parquet").mkdir()
    for name in ("stays.parquet", "measurements.parquet"):
        chosen = parquet.read_table(real / name, filters=[("RecordID", "in", records)])
        parquet.write_table(chosen, tmp_path / "parquet" / name)
    assert_same(texts, read(tmp_path / "parquet"))


@pytest.mark.slow
def test_the_real_counts(real: Path) -> None:
    columns = read(real)
    assert {name: len(rows) for name, rows in columns.rows.items()} == dict.fromkeys(columns.rows, 4000)
    labels = {task.name: np.concatenate([part.labels[task.name] for part in columns.parts()]) for task in columns.tasks}
    assert [float(labels["death"][rows].sum()) for rows in columns.rows.values()] == [554, 568, 585]
    known = {name: int((~np.isnan(label_N)).sum()) for name, label_N in labels.items()}
    assert known == {"death": 12_000, "length_of_stay": 11_833, "saps": 11_482, "sofa": 11_597}

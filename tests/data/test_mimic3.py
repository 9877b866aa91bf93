"""mimic3: hours, imputation, one-hot, labels and splits; against a plain loop, and on two public demos' stays."""

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mtlsearch.config import Mimic3Config
from mtlsearch.data.columns import Columns, Part
from mtlsearch.data.mimic3 import TASKS, Mimic3
from mtlsearch.data.mimic3_channels import CHANNELS, PHENOTYPES
from mtlsearch.data.mimic3_stays import Stay
from mtlsearch.data.mimic3_steps import CONTINUOUS, MASKS, ONE_HOT
from mtlsearch.errors import ConfigError

HEADER = ",".join(["Hours", *(channel.name for channel in CHANNELS)])
LIST_HEADER = "filename,length of stay,in-hospital mortality task (pos;mask;label),length of stay task (masks;labels)"
LIST_HEADER += ",phenotyping task (labels),decompensation task (masks;labels)"
EYES = "Glascow coma scale eye opening"

Row = Mapping[str, object]
Write = Callable[..., Mimic3Config]


def series(*rows: Row) -> str:
    """A stay's file; a row is Hours and some channels."""
    lines = (",".join(str(row.get(name, "")) for name in HEADER.split(",")) for row in rows)
    return "\n".join([HEADER, *lines]) + "\n"


def hourly(labels: Sequence[object], first: int = 5) -> str:
    """masks;labels, masked before an hour."""
    return ";".join([*(str(int(hour >= first)) for hour in range(len(labels))), *map(str, labels)])


def list_line(name: str, hours: float = 50.5, **changed: object) -> str:
    """A stay of so many hours whose patient lives."""
    marks = range(int(hours) + 1)
    values = {
        "filename": name,
        "hours": f"{hours:f}",
        "mortality": "47;1;0" if hours >= 48 else "0;0;0",
        "remaining": hourly([hours - mark for mark in marks]),
        "phenotypes": ";".join("1" if index == 3 else "0" for index in range(25)),
        "decompensation": hourly([0 for _ in marks]),
    }
    return ",".join(str(value) for value in (values | changed).values())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a directory with a stay a split; `train=` replaces the training stays' files, `lines=` their lines."""

    def write(train: Mapping[str, str] | None = None, lines: Sequence[str] | None = None) -> Mimic3Config:
        plain = series({"Hours": 0.5, "Heart Rate": 90})
        train = train or {"1_episode1_timeseries.csv": plain}
        lines = lines or [list_line(name) for name in train]
        for folder, files in (("train", {**train, "8_episode1_timeseries.csv": plain}), ("test", {"99_e.csv": plain})):
            (tmp_path / folder).mkdir(exist_ok=True)
            for name, text in files.items():
                (tmp_path / folder / name).write_text(text)
        for name, stays in (
            ("train", lines),
            ("val", [list_line("8_episode1_timeseries.csv")]),
            ("test", [list_line("99_e.csv")]),
        ):
            (tmp_path / f"{name}_listfile.csv").write_text("\n".join([LIST_HEADER, *stays]) + "\n")
        return Mimic3Config(path=str(tmp_path))

    return write


def read(config: Mimic3Config) -> Columns:
    return Mimic3(config).read(TASKS)


def first(config: Mimic3Config) -> tuple[Part, int]:
    """The only part, and the steps of its first stay."""
    (part,) = read(config).parts()
    assert part.steps is not None
    return part, int(part.steps.length_N[0])


def column(config: Mimic3Config, name: str) -> list[float]:
    part, length = first(config)
    assert part.steps is not None
    found: list[float] = part.steps.numeric[name][:length].tolist()
    return found


def label(config: Mimic3Config, task: str) -> np.ndarray:
    part, length = first(config)
    assert part.steps is not None
    return part.steps.labels[task][:length]


def test_hours_0_and_1_share_a_step_and_the_last_value_of_a_step_counts(write: Write) -> None:
    rates = {0.0: 60, 0.7: 61, 1.0: 62, 1.01: 63, 2.0: 64, 3.5: 65}
    stay = series(*({"Hours": hour, "Heart Rate": rate} for hour, rate in rates.items()))
    config = write({"1_e.csv": stay}, [list_line("1_e.csv", 4.2)])
    assert column(config, "Heart Rate") == [62, 64, 64, 65, 65]
    assert column(config, "mask->Heart Rate") == [1, 1, 0, 1, 0]


@pytest.mark.parametrize(("hours", "steps"), [(0.3, 1), (1.0, 1), (1.01, 2), (24.0, 24), (50.5, 51)])
def test_a_stay_has_a_step_for_every_hour_begun(write: Write, hours: float, steps: int) -> None:
    assert first(write(lines=[list_line("1_episode1_timeseries.csv", hours)]))[1] == steps


def test_before_the_first_measurement_stands_the_normal_value(write: Write) -> None:
    stay = series({"Hours": 1.5, "pH": 7.1, EYES: "To Pain"})
    config = write({"1_e.csv": stay}, [list_line("1_e.csv", 3.0)])
    assert_allclose(column(config, "pH"), [7.4, 7.1, 7.1])
    assert_allclose(column(config, "Temperature"), [36.6] * 3)
    assert column(config, f"{EYES}->4 Spontaneously") == [1, 0, 0]
    assert column(config, f"{EYES}->To Pain") == [0, 1, 1]


def test_what_was_measured_after_the_end_does_not_count(write: Write) -> None:
    stay = series({"Hours": 1.5, "Heart Rate": 70}, {"Hours": 2.6, "Heart Rate": 99})
    assert column(write({"1_e.csv": stay}, [list_line("1_e.csv", 2.5)]), "Heart Rate") == [86, 70, 70]


def test_values_do_not_cross_from_one_stay_to_the_next(write: Write) -> None:
    one, two = series({"Hours": 0.1, "Heart Rate": 200}), series({"Hours": 1.5, "Heart Rate": 70})
    config = write({"1_e.csv": one, "2_e.csv": two}, [list_line("1_e.csv", 2.0), list_line("2_e.csv", 2.0)])
    part, _ = first(config)
    assert part.steps is not None
    assert part.steps.numeric["Heart Rate"][:4].tolist() == [200, 200, 86, 70]


def test_76_inputs_of_which_12_are_standardized(write: Write) -> None:
    columns = read(write())
    (part,) = columns.parts()
    assert part.steps is not None
    assert (len(CONTINUOUS), len(ONE_HOT), len(MASKS), len(part.steps.numeric)) == (12, 47, 17, 76)
    kinds = {name: columns.encodings[name].kind for name in part.steps.numeric}
    assert {name for name, kind in kinds.items() if kind == "standardize"} == set(CONTINUOUS)
    assert set(kinds.values()) == {"standardize", "none"}
    assert not any(encoding.indicator for encoding in columns.encodings.values())


def test_label_h_belongs_to_the_step_that_ends_at_hour_h(write: Write) -> None:
    config = write(lines=[list_line("1_episode1_timeseries.csv", 7.5, decompensation=hourly([0, 0, 0, 0, 0, 0, 1, 0]))])
    assert_array_equal(label(config, "decompensation"), [np.nan] * 4 + [0, 1, 0, np.nan])
    remaining = [1, 3, 5, 7, 9, 11, 13, 15]
    config = write(
        lines=[list_line("1_episode1_timeseries.csv", 7.5, remaining=hourly([24 * day for day in remaining], first=0))]
    )
    assert_array_equal(label(config, "length_of_stay"), [3, 5, 7, 8, 8, 8, 9, np.nan])


def test_decompensation_may_end_before_the_stay_and_a_label_may_fall_on_its_end(write: Write) -> None:
    name = "1_episode1_timeseries.csv"
    config = write(lines=[list_line(name, 9.5, decompensation=hourly([0] * 7))])
    assert_array_equal(label(config, "decompensation"), [np.nan] * 4 + [0, 0] + [np.nan] * 4)
    config = write(lines=[list_line(name, 9.5, decompensation="")])
    assert np.isnan(label(config, "decompensation")).all()
    whole = label(write(lines=[list_line(name, 6.0)]), "length_of_stay")
    assert_array_equal(whole, [np.nan] * 4 + [0, 0])


@pytest.mark.parametrize(
    ("hours", "number"), [(0, 0), (23.9, 0), (24, 1), (191, 7), (192, 8), (335.9, 8), (336, 9), (9000, 9)]
)
def test_classes_of_remaining_time(write: Write, hours: float, number: int) -> None:
    config = write(lines=[list_line("1_episode1_timeseries.csv", 1.5, remaining=f"0;1;5;{hours}")])
    assert label(config, "length_of_stay").tolist()[0] == number
    assert len(TASKS[2].classes) == 10


def test_labels_of_whole_stays(write: Write) -> None:
    lines = [
        list_line("1_e.csv", 60.0, mortality="47;1;1"),
        list_line("2_e.csv", 60.0, mortality="47;0;1"),
        list_line("3_e.csv", 30.0, mortality="0;0;1"),
    ]
    plain = series({"Hours": 0.5, "Heart Rate": 90})
    part, _ = first(write(dict.fromkeys(("1_e.csv", "2_e.csv", "3_e.csv"), plain), lines))
    assert_array_equal(part.labels["mortality"][:3], [1, np.nan, np.nan])
    assert part.labels["phenotypes"].shape == (5, 25)
    assert part.labels["phenotypes"][0].nonzero()[0].tolist() == [PHENOTYPES.index("Cardiac dysrhythmias")]


def test_only_chosen_tasks_are_read(write: Write) -> None:
    config = write(lines=[list_line("1_episode1_timeseries.csv", phenotypes="nothing")])
    (part,) = Mimic3(config).read([TASKS[0], TASKS[1]]).parts()
    assert part.steps is not None
    assert (list(part.labels), list(part.steps.labels)) == (["mortality"], ["decompensation"])


def test_listfiles_are_the_splits(write: Write) -> None:
    columns = read(write())
    assert {name: rows.tolist() for name, rows in columns.rows.items()} == {
        "train": [0],
        "validation": [1],
        "test": [2],
    }
    assert columns.notes == ()
    names = [path.name for path in Mimic3(write()).files()]
    assert names[:3] == ["train_listfile.csv", "val_listfile.csv", "test_listfile.csv"]
    assert names[3:] == ["1_episode1_timeseries.csv", "8_episode1_timeseries.csv", "99_e.csv"]


def test_without_validation_list_subjects_are_held_out(write: Write, tmp_path: Path) -> None:
    names = [f"{subject}_episode{number}_timeseries.csv" for subject in range(20) for number in (1, 2)]
    config = write(dict.fromkeys(names, series({"Hours": 0.5, "Heart Rate": 90})))
    (tmp_path / "train_listfile.csv").rename(tmp_path / "train" / "listfile.csv")
    (tmp_path / "test_listfile.csv").rename(tmp_path / "test" / "listfile.csv")
    (tmp_path / "val_listfile.csv").unlink()
    columns = read(config)
    subjects = {name: {names[row].split("_")[0] for row in columns.rows[name]} for name in ("train", "validation")}
    assert len(subjects["validation"]) == 3
    assert not subjects["train"] & subjects["validation"]
    assert [len(columns.rows[name]) for name in ("train", "validation", "test")] == [34, 6, 1]
    assert "all stays of 3 training subjects" in columns.notes[0]
    assert subjects["validation"] == HELD_OUT


HELD_OUT = {"1", "8", "9"}
"""Written down, so that a new numpy cannot move subjects unnoticed."""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,b", r"train_listfile.csv:2: a line must have 6 fields, but this one has 2"),
        (list_line("none.csv"), r"train_listfile.csv:2: train/ must have the stay 'none.csv', but has not"),
        (list_line("1_episode1_timeseries.csv", hours=-1), r"csv:2: the hours of the stay must be above 0, .* -1"),
        (list_line("1_episode1_timeseries.csv", decompensation="1;1;0"), r"csv:2: decompensation must be masks and as"),
        (list_line("1_episode1_timeseries.csv", decompensation="1;5"), r"csv:2: decompensation must be 0 or 1, .* 5"),
        (list_line("1_episode1_timeseries.csv", 2.0, remaining="1;" * 9 + "1"), r"csv:2: length of stay must have at"),
        (list_line("1_episode1_timeseries.csv", remaining="1;x"), r"csv:2: length of stay must be numbers .* 'x'"),
        (list_line("1_episode1_timeseries.csv", phenotypes="1;0"), r"csv:2: phenotypes must be 25 numbers, .* are 2"),
        (list_line("1_episode1_timeseries.csv", 20.0, mortality="47;1;0"), r"csv:2: mortality must be .* 48 hours"),
        (list_line("1_episode1_timeseries.csv", mortality="47;1"), r"csv:2: mortality must be 3 numbers, .* are 2"),
    ],
)
def test_a_wrong_line_of_a_listfile_is_named(write: Write, line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(read(write(lines=[line])).parts())


def test_a_stay_is_listed_once(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"train_listfile.csv:3: a stay is listed once"):
        read(write(lines=[list_line("1_episode1_timeseries.csv")] * 2))


def test_a_subject_is_in_one_split(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"val_listfile.csv:2: a subject's stays .* '8' is in train and validation"):
        read(write(lines=[list_line("1_episode1_timeseries.csv"), list_line("8_episode1_timeseries.csv")]))


def test_no_listfile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.path must be the multitask directory .* train_listfile.csv"):
        Mimic3(Mimic3Config(path=str(tmp_path))).files()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (series({"Hours": 1}, {"Hours": 2, EYES: "shut"}), rf"2_e.csv:3: '{EYES}' must be one of 'To Pain'.* 'shut'"),
        (series({"Hours": 1}, {"Hours": 2, "pH": "low"}), r"2_e.csv:3: column 'pH' must hold finite .* 'low'"),
        (series({"Hours": 1, "pH": "inf"}), r"2_e.csv:2: column 'pH' must hold finite numbers"),
        (HEADER.replace("pH", "PH") + "\n1" + "," * 17 + "\n", r"2_e.csv:1: the header must name 'pH'"),
        (series({"Hours": 2}, {"Hours": 1}), r"2_e.csv:3: 'Hours' must .* never go back, but here is 1 after 2"),
        (series({"Hours": -1}), r"2_e.csv:2: 'Hours' must begin at 0 or later"),
        (series({"Hours": ""}), r"2_e.csv:2: 'Hours' must begin"),
        (HEADER + "\n1,2\n", r"2_e.csv:2: every line must have 18 fields, but this one has 2"),
    ],
)
def test_a_wrong_file_is_named_by_line(write: Write, text: str, message: str) -> None:
    files = {"1_e.csv": series({"Hours": 1}, {"Hours": 2}), "2_e.csv": text}
    with pytest.raises(ConfigError, match=message):
        list(read(write(files)).parts())


def test_files_whose_columns_stand_in_another_order_are_read_too(write: Write) -> None:
    turned = "pH," + HEADER.removesuffix(",pH") + "\n7.0,0.5" + "," * 16
    files = {"1_e.csv": series({"Hours": 0.5, "pH": 7.0}), "2_e.csv": turned}
    part, length = first(write(files))
    assert part.steps is not None
    assert part.steps.numeric["pH"][length] == part.steps.numeric["pH"][0] == np.float32(7.0)


DEMOS = {"mimic3_demo": "multitask_labs_only.tar.gz", "mimic4_demo": "multitask.tar.gz"}
COUNTS = {
    "mimic3_demo": [(80, 41, 10, 8102, 285, 8149), (14, 5, 2, 731, 40, 737), (18, 11, 5, 1824, 119, 1849)],
    "mimic4_demo": [(70, 31, 5, 5437, 104, 5451), (16, 7, 2, 1274, 24, 1278), (26, 16, 2, 1977, 24, 1981)],
}
"""A split's stays, those with a mortality label, deaths, decompensation hours, positive ones, length-of-stay hours."""


@pytest.fixture(params=list(DEMOS))
def demo(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> tuple[str, Mimic3Config]:
    """The stays of MIMIC-III's open demo (laboratory values alone), and of MIMIC-IV's."""
    with tarfile.open(shared_data / request.param / DEMOS[request.param]) as archive:
        archive.extractall(tmp_path, filter="data")
    return request.param, Mimic3Config(path=str(tmp_path / "multitask"))


def test_the_demos(demo: tuple[str, Mimic3Config]) -> None:
    name, config = demo
    columns = read(config)
    (part,) = columns.parts()
    assert part.steps is not None
    stop_N = np.cumsum(part.steps.length_N)
    found = []
    for rows in columns.rows.values():
        steps = np.concatenate([np.arange(stop_N[row] - part.steps.length_N[row], stop_N[row]) for row in rows])
        mortality, worse = part.labels["mortality"][rows], part.steps.labels["decompensation"][steps]
        remaining = part.steps.labels["length_of_stay"][steps]
        counts = [np.isfinite(mortality).sum(), np.nansum(mortality), np.isfinite(worse).sum(), np.nansum(worse)]
        found.append((len(rows), *map(int, counts), int(np.isfinite(remaining).sum())))
    assert found == COUNTS[name]
    assert len(part.steps.numeric) == 76
    for channel in CHANNELS:
        if channel.categories:
            assert (sum(part.steps.numeric[name] for name in channel.inputs) == 1).all()


def test_the_demos_are_discretized_as_by_a_plain_loop(demo: tuple[str, Mimic3Config]) -> None:
    columns = read(demo[1])
    (part,) = columns.parts()
    assert part.steps is not None
    stop_N = np.cumsum(part.steps.length_N)
    stays = list(listed(demo[1]))
    assert len(stays) == len(stop_N)
    for row in (0, 5, 30, 80, 111):
        steps = slice(stop_N[row] - part.steps.length_N[row], stop_N[row])
        ours = np.stack([values[steps] for values in part.steps.numeric.values()], axis=1)
        assert_array_equal(ours, np.array(plain_loop(stays[row]), np.float32))


def listed(config: Mimic3Config) -> Iterator[Stay]:
    from mtlsearch.data.mimic3_stays import LISTFILES, list_stays

    for split in LISTFILES:
        yield from list_stays(Path(config.path), split)


def plain_loop(stay: Stay) -> list[list[float]]:
    """The discretizer as it is described: 59 values and 17 masks of each hour."""
    header, *lines = stay.path.read_text().splitlines()
    names = header.split(",")
    hours = [dict(zip(names, line.split(","), strict=True)) for line in lines]
    now = {channel.name: channel.normal for channel in CHANNELS}
    table = []
    for hour in range(int(stay.hours + 1 - 1e-6)):
        measured = dict.fromkeys(now, False)
        for row in hours:
            if int(float(row["Hours"]) - 1e-6) == hour:
                for name in now:
                    if row[name]:
                        now[name], measured[name] = row[name], True
        values: list[float] = []
        for channel in CHANNELS:
            value = now[channel.name]
            one_hot = [float(value == category) for category in channel.categories]
            values += one_hot if channel.categories else [float(value)]
        table.append(values + [float(measured[channel.name]) for channel in CHANNELS])
    return table

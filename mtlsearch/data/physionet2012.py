"""PhysioNet / CinC Challenge 2012: 48 hours of ICU stays, 37 channels measured at irregular times, four outcomes.

Silva et al., Computing in Cardiology 39:245 (2012). Set a trains, b validates, c tests. Values that cannot be (a
temperature of −17.8 °C, a pH of 735) stay as they are; encoding by rank keeps them from drowning the others.
Every stay has the same steps: all lasted 48 hours at least, so that hours without a measurement are hours too.

Axes: N stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.data import Physionet2012Config
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.table import Channel
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part, SplitName, StepPart
from mtlsearch.data.physionet2012_parquet import MEASUREMENTS, STAYS, read_parquet
from mtlsearch.data.physionet2012_stays import GENDERS, SETS, UNITS, VARIABLES, Stays, named
from mtlsearch.data.physionet2012_text import read_text, text_files
from mtlsearch.data.sequences.binning import channel_columns, channel_encodings
from mtlsearch.data.sequences.blocks import blocks
from mtlsearch.data.sequences.steps import Steps, fixed
from mtlsearch.data.sequences.summaries import summary_columns, summary_encodings
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

TASKS = (
    Task(name="death", kind="binary"),
    Task(name="length_of_stay", kind="regression", unit="log(1 + days)"),
    Task(name="saps", kind="regression", unit="SAPS-I"),
    Task(name="sofa", kind="regression", unit="SOFA"),
)
CHANNELS: tuple[Channel, ...] = ("last", "mean", "measured")
ENCODING = Encoding(clip=5.0)
"""Of every measured value, the impossible ones included (a pH of 735). Ranks (`quantile`) scored worse: mean validation
score .643 against .654."""
HOURS = 48
SPLIT_SEED = 0


@dataclass(frozen=True)
class Physionet2012:
    """The source `physionet2012`."""

    config: Physionet2012Config
    version: int = 1
    tasks: tuple[Task, ...] = TASKS

    def files(self) -> tuple[Path, ...]:
        """The two Parquet files, or the outcomes and the stays' text files."""
        if self._is_parquet:
            return (self._folder / STAYS, self._folder / MEASUREMENTS)
        if files := text_files(self._folder):
            return files
        raise ConfigError(
            f"data.path must be a folder with set-a and Outcomes-a.txt, or with {STAYS} and {MEASUREMENTS}, "
            "but it has neither. Download challenge-2012 from physionet.org and unpack its sets there.",
            Where(self._folder),
        )

    def read(self, tasks: Sequence[Task]) -> Columns:
        """One row a stay, in order of set and record."""
        file = self.files()[0]
        stays = read_parquet(self._folder) if self._is_parquet else read_text(self._folder)
        rows, note = _rows(stays, file)
        part = Part(
            numeric={name: stays.numbers[name] for name in ("age", "height", "weight")},
            categorical={
                "gender": named(stays.gender_N, GENDERS, "gender", file),
                "ICU type": named(stays.icu_type_N, UNITS, "the ICU type", file),
            },
            labels={task.name: _label(stays, task.name) for task in tasks},
        )
        steps = fixed(len(stays.record_N), math.ceil(HOURS / self.config.step), self.config.step * 60)
        return Columns(
            tasks=tuple(tasks),
            rows=rows,
            parts=lambda: self._parts(stays, part, steps),
            encodings=self._encodings(),
            notes=(*note, *stays.notes),
        )

    @property
    def _folder(self) -> Path:
        return Path(self.config.path).expanduser()

    @property
    def _is_parquet(self) -> bool:
        return (self._folder / STAYS).is_file() and (self._folder / MEASUREMENTS).is_file()

    def _parts(self, stays: Stays, whole: Part, steps: Steps) -> Iterator[Part]:
        for first, stop in blocks(steps.length_N, len(VARIABLES)):
            block, measurements = slice(first, stop), stays.measurements.of(first, stop)
            summaries = summary_columns(measurements, VARIABLES) if self.config.summaries else {}
            numeric = channel_columns(measurements, steps.of(first, stop), VARIABLES, CHANNELS)
            yield Part(
                numeric={name: column_N[block] for name, column_N in whole.numeric.items()} | summaries,
                categorical={name: column[block] for name, column in whole.categorical.items()},
                labels={name: label_N[block] for name, label_N in whole.labels.items()},
                steps=StepPart(steps.length_N[block], numeric, categorical={}, labels={}),
            )

    def _encodings(self) -> Mapping[str, Encoding]:
        found = dict.fromkeys(("age", "height", "weight"), ENCODING)
        for name in VARIABLES:
            found.update(channel_encodings(name, CHANNELS, ENCODING))
            if self.config.summaries:
                found.update(summary_encodings(name, ENCODING))
        return found


def _label(stays: Stays, task: str) -> Floats:
    import numpy as np

    outcome_N = stays.numbers[task]
    return np.log1p(outcome_N) if task == "length_of_stay" else outcome_N


def _rows(stays: Stays, file: Path) -> tuple[dict[SplitName, Ints], tuple[str, ...]]:
    """Set a trains; the other sets validate and test, and what is missing is made from what is there."""
    import numpy as np

    a, b, c = (np.flatnonzero(stays.set_N == name) for name in SETS)
    if not len(a):
        raise ConfigError("set a must be there, for it trains, but the files have none of its stays.", Where(file))
    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    random = np.random.RandomState(SPLIT_SEED)
    if len(b) and len(c):
        return {"train": a, "validation": b, "test": c}, ()
    if other := "b" if len(b) else "c" if len(c) else "":
        train, rest = a, random.permutation(np.concatenate([b, c]))
        num_validation = len(rest) // 2
        note = f"Of sets b and c only {other} is there: one half of it validates, the other tests."
    else:
        order = random.permutation(a)
        num_train, num_validation = round(0.7 * len(a)), round(0.15 * len(a))
        train, rest = np.sort(order[:num_train]), order[num_train:]
        note = "Set a alone is there: 70 % of it trains, 15 % validates, 15 % tests, drawn at random."
    validation, test = np.sort(rest[:num_validation]), np.sort(rest[num_validation:])
    return {"train": train, "validation": validation, "test": test}, (note,)

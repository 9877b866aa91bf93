"""ICU stays of MIMIC-III in the multitask directory of the mimic3-benchmarks project: four tasks, 76 inputs an hour.

Harutyunyan et al., Multitask learning and benchmarking with clinical time series data, Scientific Data 2019,
arXiv 1703.07771. Splits are by subject. Remaining time is classed as there: a class a day up to the eighth, one for
8 to 14 days, one beyond.

Axes: N stays of a part, M steps of all its stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.data import Mimic3Config
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part, SplitName, StepPart
from mtlsearch.data.mimic3_channels import PHENOTYPES
from mtlsearch.data.mimic3_stays import MORTALITY_HOUR, Stay, list_stays, listfiles
from mtlsearch.data.mimic3_steps import CONTINUOUS, MASKS, ONE_HOT, step_inputs
from mtlsearch.errors import ConfigError

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

REMAINING = ("<1 day", *(f"{day}-{day + 1} days" for day in range(1, 8)), "8-14 days", ">14 days")
LAST_DAYS = (1, 2, 3, 4, 5, 6, 7, 8, 14)
"""Days at which a class of remaining time ends."""

TASKS = (
    Task(name="mortality", kind="binary", at_step=MORTALITY_HOUR - 1),
    Task(name="decompensation", kind="binary", per_step=True),
    Task(name="length_of_stay", kind="multiclass", metric="linear_kappa", classes=REMAINING, per_step=True),
    Task(name="phenotypes", kind="multilabel", classes=PHENOTYPES),
)

STAYS_A_PART = 500
HELD_OUT = 0.15
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Mimic3:
    """The source `mimic3`."""

    config: Mimic3Config
    version: int = 1
    tasks: tuple[Task, ...] = TASKS

    def files(self) -> tuple[Path, ...]:
        """The listfiles, then the file of every stay."""
        folder = Path(self.config.path).expanduser()
        found = listfiles(folder)
        stays = (stay.path for split in found for stay in list_stays(folder, split))
        return (*(folder / name for _, name, _ in found), *stays)

    def read(self, tasks: Sequence[Task]) -> Columns:
        """One row a stay, in the order of the listfiles, train first, test last; a step an hour."""
        folder = Path(self.config.path).expanduser()
        splits = {split[0]: list_stays(folder, split) for split in listfiles(folder)}
        _check_subjects(splits)
        stays = [stay for split in splits.values() for stay in split]
        held_out: frozenset[str] = frozenset() if "validation" in splits else _held_out(splits["train"])
        return Columns(
            tasks=tuple(tasks),
            rows=_rows({name: len(split) for name, split in splits.items()}, stays, held_out),
            parts=partial(_parts, stays, tuple(task.name for task in tasks)),
            encodings={
                **dict.fromkeys(CONTINUOUS, Encoding(kind="standardize", indicator=False)),
                **dict.fromkeys((*ONE_HOT, *MASKS), Encoding(kind="none", indicator=False)),
            },
            notes=(_note(held_out),) if held_out else (),
        )


def _check_subjects(splits: Mapping[SplitName, Sequence[Stay]]) -> None:
    """Such a mistake is easily made (train/listfile.csv has the validation stays too) and flatters every score."""
    home: dict[str, SplitName] = {}
    for name, stays in splits.items():
        for stay in stays:
            if home.setdefault(stay.subject, name) != name:
                raise ConfigError(
                    f"a subject's stays must be in one split, but {stay.subject!r} is in {home[stay.subject]} and "
                    f"{name}. Is the listfile of training stays the one that split_train_val wrote?",
                    stay.where,
                )


def _held_out(stays: Sequence[Stay]) -> frozenset[str]:
    """Subjects for validation, drawn from those of the training stays."""
    import numpy as np

    subjects = sorted({stay.subject for stay in stays})
    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    order = np.random.RandomState(HELD_OUT_SEED).permutation(len(subjects))
    return frozenset(subjects[index] for index in order[: max(1, round(HELD_OUT * len(subjects)))])


def _rows(counts: dict[SplitName, int], stays: Sequence[Stay], held_out: frozenset[str]) -> dict[SplitName, Ints]:
    import numpy as np

    split_N = np.repeat(list(counts), list(counts.values())).astype("U10")
    held_N = np.array([stay.subject in held_out for stay in stays])
    split_N[held_N & (split_N == "train")] = "validation"
    return {name: np.flatnonzero(split_N == name) for name in ("train", "validation", "test")}


def _note(held_out: frozenset[str]) -> str:
    return (
        f"No val_listfile.csv: all stays of {len(held_out):,} training subjects, {HELD_OUT:.0%} drawn with seed "
        f"{HELD_OUT_SEED}, are the validation split, not the benchmark's own subjects."
    )


def _parts(stays: Sequence[Stay], tasks: Sequence[str]) -> Iterator[Part]:
    for start in range(0, len(stays), STAYS_A_PART):
        yield _part(stays[start : start + STAYS_A_PART], tasks)


def _part(stays: Sequence[Stay], tasks: Sequence[str]) -> Part:
    import numpy as np

    labels = {task: _labels(stays, task) for task in tasks}
    step_tasks = {task.name for task in TASKS if task.per_step}
    return Part(
        numeric={},
        categorical={},
        labels={task: label for task, label in labels.items() if task not in step_tasks},
        steps=StepPart(
            length_N=np.array([stay.num_steps for stay in stays]),
            numeric=step_inputs(stays),
            categorical={},
            labels={task: label for task, label in labels.items() if task in step_tasks},
        ),
    )


def _labels(stays: Sequence[Stay], task: str) -> Floats:
    """float32 [N], [N, 25] or [M]."""
    import numpy as np

    match task:
        case "mortality":
            labels = np.array([stay.mortality() for stay in stays])
        case "phenotypes":
            labels = np.stack([stay.phenotypes() for stay in stays])
        case "decompensation":
            labels = np.concatenate([stay.decompensation() for stay in stays])
        case _:
            assert task == "length_of_stay"
            hours_M = np.concatenate([stay.remaining_hours() for stay in stays])
            class_M = np.searchsorted(24.0 * np.array(LAST_DAYS), hours_M, side="right")
            labels = np.where(np.isnan(hours_M), np.nan, class_M)
    return labels.astype(np.float32)

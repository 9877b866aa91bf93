"""PCBA, 128 assays of PubChem (MoleculeNet), in the files of the MMoEEx paper: 1,024-bit fingerprints, labels, weights.

Four in ten labels were not measured; their weight is 0. The other weights balance each assay's few positives against
its negatives. Wu et al., MoleculeNet, Chemical Science 2018.

Axes: N molecules, K chosen tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.config.data import PcbaConfig
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part, SplitName
from mtlsearch.data.csv_stream import find_csv
from mtlsearch.data.pcba_files import NUM_BITS, check_names, read_bits, read_matrix
from mtlsearch.data.pcba_tasks import NAMES
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

BITS = tuple(f"bit {index}" for index in range(NUM_BITS))

TRAINED_ON_IN_PUBLISHED_WORK = 351_890
HELD_OUT = 0.15
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class Molecules:
    """One of the three sets of files, its labels and weights read."""

    features: Path
    labels: Mapping[str, Floats]
    """Task → float32 [N]; NaN where the weight is 0."""
    weights: Mapping[str, Floats]
    num_rows: int

    def parts(self, *, weighted: bool) -> Iterator[Part]:
        """Its rows, some thousands at a time."""
        start = 0
        for bits_FN in read_bits(self.features, self.num_rows):
            rows = slice(start, start := start + bits_FN.shape[1])
            yield Part(
                numeric=dict(zip(BITS, bits_FN, strict=True)),
                categorical={},
                labels={task: label_N[rows] for task, label_N in self.labels.items()},
                weights={task: weight_N[rows] for task, weight_N in self.weights.items()} if weighted else {},
            )


@dataclass(frozen=True)
class Pcba:
    """The source `pcba`."""

    config: PcbaConfig
    version: int = 1
    tasks: tuple[Task, ...] = tuple(Task(name=name, kind="binary") for name in NAMES)

    def files(self) -> tuple[Path, ...]:
        """tasks.csv, then features, y and w of train (where its features are there), val and test."""
        folder = Path(self.config.path).expanduser()
        sets = ("train", "val", "test") if find_csv(folder, "pcba_train_features.csv") else ("val", "test")
        names = ("tasks.csv", *(f"pcba_{name}_{kind}.csv" for name in sets for kind in ("features", "y", "w")))
        return tuple(_found(folder, name) for name in names)

    def read(self, tasks: Sequence[Task]) -> Columns:
        """One row a molecule: the train file's, if there are any, then the val file's, then the test file's."""
        names_file, *files = self.files()
        check_names(names_file)
        sets = [_molecules(*three, tasks=tasks) for three in zip(files[::3], files[1::3], files[2::3], strict=True)]
        rows = _rows([molecules.num_rows for molecules in sets])
        _check_labels(sets[0], rows["train"])
        return Columns(
            tasks=tuple(tasks),
            rows=rows,
            parts=lambda: (part for each in sets for part in each.parts(weighted=self.config.weights)),
            encodings=dict.fromkeys(BITS, Encoding(kind="none", indicator=False)),
            notes=() if len(sets) == 3 else (_val_note(rows),),
        )


def _found(folder: Path, name: str) -> Path:
    path = find_csv(folder, name)
    if path is None:
        raise ConfigError(
            f"data.path must be a folder with {name} (or {name}.gz), but it has none. The "
            "MMoEEx-MTL project's files: pcba_{train,val,test}_{features,y,w}.csv.gz (train may be absent), tasks.csv.",
            Where(folder),
        )
    return path


def _molecules(features: Path, labels_path: Path, weights_path: Path, *, tasks: Sequence[Task]) -> Molecules:
    import numpy as np

    columns = {task.name: NAMES.index(task.name) for task in tasks}
    labels = read_matrix(labels_path, columns, lambda label_N: (label_N == 0) | (label_N == 1), "0 or 1")
    weights = read_matrix(weights_path, columns, lambda weight_N: weight_N >= 0, "at least 0")
    num_rows, num_weights = (len(next(iter(table.values()))) for table in (labels, weights))
    if num_rows != num_weights:
        raise ConfigError(
            f"labels and weights must have as many rows, but {labels_path.name} has {num_rows:,} and this "
            f"file {num_weights:,}. Fetch both again.",
            Where(weights_path),
        )
    measured = {task: np.where(weights[task] > 0, labels[task], np.float32(np.nan)) for task in columns}
    return Molecules(features, measured, weights, num_rows)


def _rows(counts: Sequence[int]) -> dict[SplitName, Ints]:
    """Train, val and test file are the splits; without a train file a part of val is held out for validation."""
    import numpy as np

    starts = np.cumsum([0, *counts])
    files = [np.arange(start, stop) for start, stop in pairwise(starts)]
    if len(files) == 3:
        return {"train": files[0], "validation": files[1], "test": files[2]}
    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    order = np.random.RandomState(HELD_OUT_SEED).permutation(counts[0])
    held_out = round(HELD_OUT * counts[0])
    return {"train": np.sort(order[held_out:]), "validation": np.sort(order[:held_out]), "test": files[1]}


def _val_note(rows: Mapping[SplitName, Ints]) -> str:
    return (
        f"No pcba_train_features.csv: {len(rows['train']):,} molecules of the val file are trained on and its other "
        f"{len(rows['validation']):,} are the validation split (published results train on "
        f"{TRAINED_ON_IN_PUBLISHED_WORK:,})."
    )


def _check_labels(molecules: Molecules, train: Ints) -> None:
    """Names all tasks at once that cannot be learnt, since so many tasks are searched together."""
    learnt = {task: label_N[train] for task, label_N in molecules.labels.items()}
    odd = [task for task, label_N in learnt.items() if not ((label_N == 0).any() and (label_N == 1).any())]
    if odd:
        raise ConfigError(
            f"data.tasks: every task needs positive and negative training molecules, but {len(odd)} of {len(learnt)} "
            f"have none of one kind. Leave out: {', '.join(odd)}."
        )

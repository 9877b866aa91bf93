"""The listfiles of a multitask directory: one line a stay, with its labels.

A line is filename, hours of the stay, `pos;mask;label` of mortality, `masks;labels` of the remaining hours, 25
phenotypes, `masks;labels` of decompensation; masks and labels are the two halves of one list, with an entry an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mtlsearch.data.columns import SplitName
from mtlsearch.data.csv_stream import open_csv
from mtlsearch.data.mimic3_channels import PHENOTYPES
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Doubles: TypeAlias = NDArray[np.float64]

LISTFILES: tuple[tuple[SplitName, str, str], ...] = (
    ("train", "train_listfile.csv", "train"),
    ("validation", "val_listfile.csv", "train"),
    ("test", "test_listfile.csv", "test"),
)
"""Split, its listfile, the folder of its stays."""

UNSPLIT: tuple[tuple[SplitName, str, str], ...] = (
    ("train", "train/listfile.csv", "train"),
    ("test", "test/listfile.csv", "test"),
)
"""As the benchmark's own script leaves them, before it sets validation subjects apart."""

FIELDS = 6
MORTALITY_HOUR = 48
EPSILON = 1e-6
"""Hours. A moment this little after a full hour still belongs to the step before, as in the benchmark."""


@dataclass(frozen=True)
class Stay:
    """One line of a listfile."""

    path: Path
    fields: tuple[str, ...]
    where: Where

    @property
    def subject(self) -> str:
        """Whose stay it is."""
        return self.path.name.split("_")[0]

    @cached_property
    def hours(self) -> float:
        """Length of the stay."""
        (hours,) = _exactly(self, 1, "the hours of the stay", ("hours",))
        if not hours > 0:
            raise ConfigError(f"the hours of the stay must be above 0, but here stands {hours:g}.", self.where)
        return float(hours)

    @property
    def num_steps(self) -> int:
        """Steps of an hour each; the first one has hours 0 and 1."""
        return max(1, int(self.hours + 1 - EPSILON))

    def mortality(self) -> float:
        """0 or 1, or NaN where the stay is not one to predict for."""
        position, mask, label = _exactly(self, 2, "mortality", ("position", "mask", "label"))
        if mask == 0:
            return float("nan")
        if position != MORTALITY_HOUR - 1 or self.num_steps < MORTALITY_HOUR or label not in (0, 1):
            raise ConfigError(
                f"mortality must be 0 or 1, predicted at position {MORTALITY_HOUR - 1} of a stay of {MORTALITY_HOUR} "
                f"hours or more, but this line has {label:g} at position {position:g} of {self.hours:g} hours.",
                self.where,
            )
        return float(label)

    def phenotypes(self) -> Doubles:
        """[25] of 0 and 1."""
        return _binary(self, _exactly(self, 4, "phenotypes", PHENOTYPES), "phenotypes")

    def remaining_hours(self) -> Doubles:
        """[T]; NaN where masked."""
        return _hourly(self, 3, "length of stay")

    def decompensation(self) -> Doubles:
        """[T] of 0 and 1; NaN where masked."""
        return _binary(self, _hourly(self, 5, "decompensation"), "decompensation")


def list_stays(folder: Path, split: tuple[SplitName, str, str]) -> list[Stay]:
    """The stays of one listfile. Raises ConfigError for a wrong line, a stay without its file or listed twice."""
    _, name, stays_folder = split
    there = {path.name for path in (folder / stays_folder).glob("*.csv")}
    stays = list(_lines(folder / name, folder / stays_folder))
    seen: set[str] = set()
    for stay in stays:
        if stay.path.name not in there:
            raise ConfigError(f"{stays_folder}/ must have the stay {stay.path.name!r}, but has not.", stay.where)
        if stay.path.name in seen:
            raise ConfigError(f"a stay is listed once, but {stay.path.name!r} is there twice.", stay.where)
        seen.add(stay.path.name)
    return stays


def listfiles(folder: Path) -> tuple[tuple[SplitName, str, str], ...]:
    """The three listfiles, or the two of a directory whose validation subjects are not set apart."""
    for found in (LISTFILES, UNSPLIT):
        if all((folder / name).is_file() for _, name, _ in found):
            return found
    raise ConfigError(
        "data.path must be the multitask directory of mimic3-benchmarks, with "
        f"{', '.join(name for _, name, _ in LISTFILES)} (or {' and '.join(name for _, name, _ in UNSPLIT)}), "
        "but they are not there. The project's create_multitask and split_train_val scripts make it.",
        Where(folder),
    )


def _lines(path: Path, folder: Path) -> Iterator[Stay]:
    with open_csv(path) as stream:
        header = stream.readline().decode("utf-8-sig", "replace")
        if not header.startswith("filename,"):
            raise ConfigError(
                f"a listfile must begin with a header, filename,…, but begins with {header[:40]!r}.", Where(path, 1)
            )
        for line, text in enumerate(stream, 2):
            fields = tuple(text.decode("utf-8", "replace").strip().split(","))
            where = Where(path, line)
            if len(fields) != FIELDS:
                raise ConfigError(f"a line must have {FIELDS} fields, but this one has {len(fields)}.", where)
            yield Stay(folder / fields[0], fields, where)


def _numbers(stay: Stay, field: int, what: str) -> Doubles:
    import numpy as np

    text = stay.fields[field]
    try:
        numbers = np.array(text.split(";") if text else [], dtype=np.float64)
    except ValueError as error:
        raise ConfigError(f"{what} must be numbers between semicolons, but: {error}.", stay.where) from error
    if not np.isfinite(numbers).all():
        raise ConfigError(f"{what} must be finite numbers, but some are not.", stay.where)
    return numbers


def _exactly(stay: Stay, field: int, what: str, names: Sequence[str]) -> Doubles:
    numbers = _numbers(stay, field, what)
    if len(numbers) != len(names):
        raise ConfigError(f"{what} must be {len(names)} numbers, but here are {len(numbers)}.", stay.where)
    return numbers


def _hourly(stay: Stay, field: int, what: str) -> Doubles:
    """Label h was taken h hours after admission, so it belongs to the step that ends then; hour 0 to the first too.

    The benchmark does the same. (At the step that begins with hour h the model would see an hour beyond the label.)
    """
    import numpy as np

    numbers = _numbers(stay, field, what)
    hours, odd = divmod(len(numbers), 2)
    if odd:
        raise ConfigError(
            f"{what} must be masks and as many labels, but the list has {len(numbers)} entries.", stay.where
        )
    if hours > stay.num_steps + 1:
        raise ConfigError(
            f"{what} must have at most a label an hour, but a stay of {stay.hours:g} hours has {hours}.", stay.where
        )
    label_H = np.where(numbers[:hours] == 1, numbers[hours:], np.nan)
    label_T = np.full(stay.num_steps, np.nan)
    label_T[:1] = label_H[:1] if hours else np.nan
    label_T[: max(hours - 1, 0)] = label_H[1:]
    return label_T


def _binary(stay: Stay, labels: Doubles, what: str) -> Doubles:
    import numpy as np

    odd = labels[~np.isin(labels, (0, 1)) & ~np.isnan(labels)]
    if len(odd):
        raise ConfigError(f"{what} must be 0 or 1, but here is {odd[0]:g}.", stay.where)
    return labels

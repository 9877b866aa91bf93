"""The challenge's stays from its own files: folders set-a, set-b, set-c with a text a stay, and their outcomes.

Age, Gender, Height, ICUType and RecordID stand among a stay's measurements at 00:00; the first Weight at 00:00 is
both a descriptor and a measurement. −1 is an unknown descriptor or outcome.

Axes: N stays, K lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlsearch.data.csv_fault import check_ranges
from mtlsearch.data.csv_file import Table, read_csv
from mtlsearch.data.physionet2012_lines import Lines, read_lines
from mtlsearch.data.physionet2012_stays import SETS, VARIABLES, Stays
from mtlsearch.data.sequences.measurements import Measurements, in_order
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats

OUTCOMES = {"death": "In-hospital_death", "length_of_stay": "Length_of_stay", "saps": "SAPS-I", "sofa": "SOFA"}
"""Our name → the file's column."""

DESCRIPTORS = {"age": "Age", "height": "Height", "weight": "Weight", "gender": "Gender", "icu_type": "ICUType"}
PARAMETERS = (*VARIABLES, "Age", "Gender", "Height", "ICUType", "RecordID", "")
"""What a line may name; set c of some copies has lines that name nothing."""

UNKNOWN = -1


def text_files(folder: Path) -> tuple[Path, ...]:
    """Outcomes and then stays, of the sets that are there. Raises ConfigError when a set has no outcomes."""
    names = _sets(folder)
    for name in names:
        if not _outcomes(folder, name).is_file():
            raise ConfigError(
                f"set-{name} must have this file beside it, but it is not there. Add it, or remove the set.",
                Where(_outcomes(folder, name)),
            )
    return (*(_outcomes(folder, name) for name in names), *(path for name in names for path in _texts(folder, name)))


def read_text(folder: Path) -> Stays:
    """All sets of the folder that are there. Raises ConfigError for what does not fit, by file and line."""
    import numpy as np
    import pyarrow as pa

    names = _sets(folder)
    texts = {name: _texts(folder, name) for name in names}
    paths = [path for name in names for path in texts[name]]
    table = pa.concat_tables([_read_outcomes(_outcomes(folder, name), texts[name]) for name in names])
    lines = read_lines(paths, PARAMETERS)
    found = _descriptors(lines, paths)
    outcomes = {name: _known(table[column].to_numpy().astype(np.float32)) for name, column in OUTCOMES.items()}
    unnamed = int(np.count_nonzero(lines.parameter_K == PARAMETERS.index("")))
    return Stays(
        record_N=np.array([int(path.stem) for path in paths], np.int64),
        set_N=np.repeat(names, [len(texts[name]) for name in names]),
        gender_N=found.pop("gender"),
        icu_type_N=found.pop("icu_type"),
        numbers=found | outcomes,
        measurements=_measurements(lines, len(paths)),
        notes=(f"{unnamed:,} lines without a parameter's name were left out.",) if unnamed else (),
    )


def _sets(folder: Path) -> list[str]:
    return [name for name in SETS if _texts(folder, name)]


def _outcomes(folder: Path, name: str) -> Path:
    return folder / f"Outcomes-{name}.txt"


def _texts(folder: Path, name: str) -> list[Path]:
    """A set's stays in order of their records."""
    return sorted((path for path in (folder / f"set-{name}").glob("*.txt") if path.stem.isdigit()), key=_record)


def _record(path: Path) -> int:
    return int(path.stem)


def _read_outcomes(path: Path, texts: Sequence[Path]) -> Table:
    """One row a stay, in the order of the texts."""
    import numpy as np

    table = read_csv(path, dict.fromkeys(("RecordID", *OUTCOMES.values()), "number"), missing=())
    check_ranges({"In-hospital_death": table["In-hospital_death"].to_numpy()}, {"In-hospital_death": (0, 1)}, path)
    record_N, expected_N = table["RecordID"].to_numpy(), np.array([_record(path) for path in texts])
    if len(without := np.setdiff1d(record_N, expected_N)):
        folder = texts[0].parent.name
        raise ConfigError(
            f"every record must have a text in {folder}, but {without[0]:g} has none. Add it, or remove the line.",
            Where(path),
        )
    if len(without := np.setdiff1d(expected_N, record_N)):
        raise ConfigError(f"every stay must have a line, but {without[0]:g} has none. Add it.", Where(path))
    if len(record_N) > len(expected_N):
        raise ConfigError("every stay must have one line, but some have two. Remove one.", Where(path))
    return table.take(np.argsort(record_N))


def _descriptors(lines: Lines, paths: Sequence[Path]) -> dict[str, Floats]:
    """Name → float32 [N]: the first value at 00:00; NaN where there is none or it is unknown."""
    import numpy as np

    found = {}
    for name, parameter in {**DESCRIPTORS, "record": "RecordID"}.items():
        is_K = (lines.parameter_K == PARAMETERS.index(parameter)) & (lines.minute_K == 0)
        stay_K, value_K = lines.stay_K[is_K], lines.value_K[is_K]
        found[name] = np.full(len(paths), np.nan, np.float32)
        found[name][stay_K[::-1]] = value_K[::-1]  # of an index that occurs several times numpy keeps the last
    record_N = np.array([_record(path) for path in paths], np.float32)
    wrong_N = found.pop("record") != record_N
    if wrong_N.any():
        path = paths[int(wrong_N.argmax())]
        raise ConfigError(f"the text must have a line `00:00,RecordID,{path.stem}`, but has not. Mend it.", Where(path))
    return {name: _known(value_N) for name, value_N in found.items()}


def _known(value_N: Floats) -> Floats:
    import numpy as np

    return np.where(value_N == UNKNOWN, np.float32(np.nan), value_N)


def _measurements(lines: Lines, num_stays: int) -> Measurements:
    """What the lines measure; a weight of −1 is none."""
    is_K = lines.parameter_K < len(VARIABLES)
    is_K &= (lines.parameter_K != VARIABLES.index("Weight")) | (lines.value_K != UNKNOWN)
    return in_order(
        Measurements(
            lines.stay_K[is_K],
            lines.minute_K[is_K],
            lines.parameter_K[is_K],
            lines.value_K[is_K],
            num_stays,
            len(VARIABLES),
        )
    )

"""The challenge's stays from two Parquet files: one row a stay, one row a measurement.

Axes: N stays, K measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.data.physionet2012_stays import SETS, VARIABLES, Stays
from mtlsearch.data.sequences.measurements import Measurements, in_order
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints

STAYS, MEASUREMENTS = "stays.parquet", "measurements.parquet"

NUMBERS = {
    "age": "age",
    "height": "height_cm",
    "weight": "admission_weight_kg",
    "death": "in_hospital_death",
    "length_of_stay": "length_of_stay_days",
    "saps": "SAPS_I",
    "sofa": "SOFA",
}
"""Our name → the file's column."""

LAST_MINUTE = 48 * 60


def read_parquet(folder: Path) -> Stays:
    """FOLDER/stays.parquet and FOLDER/measurements.parquet. Raises ConfigError for what does not fit."""
    import numpy as np

    path = folder / STAYS
    table = _table(path, ["RecordID", "set", "gender", "icu_type", *NUMBERS.values()])
    record_N, set_N = np.asarray(table["RecordID"], np.int64), np.asarray(table["set"].to_pylist(), str)
    if odd := sorted(set(set_N) - set(SETS)):
        raise ConfigError(f"column 'set' must be a, b or c, but {str(odd[0])!r} is there too. Mend it.", Where(path))
    order_N = np.lexsort((record_N, set_N))
    numbers = {name: _floats(table, column)[order_N] for name, column in NUMBERS.items()}
    return Stays(
        record_N=record_N[order_N],
        set_N=set_N[order_N],
        numbers=numbers,
        gender_N=_floats(table, "gender")[order_N],
        icu_type_N=_floats(table, "icu_type")[order_N],
        measurements=_measurements(folder / MEASUREMENTS, record_N[order_N], path),
    )


def _measurements(path: Path, record_N: Ints, stays: Path) -> Measurements:
    import numpy as np

    table = _table(path, ["RecordID", "minute", "parameter", "value"])
    minute_K, value_K = np.asarray(table["minute"]), np.asarray(table["value"], np.float32)
    if wrong := int(np.count_nonzero(~((minute_K >= 0) & (minute_K <= LAST_MINUTE)))):
        raise ConfigError(
            f"column 'minute' must lie in 0..{LAST_MINUTE}, but {wrong} rows do not. Mend them.", Where(path)
        )
    if not np.isfinite(value_K).all():
        raise ConfigError("column 'value' must hold finite numbers only. Remove the rows without one.", Where(path))
    return in_order(
        Measurements(
            _index(np.asarray(table["RecordID"]), record_N, path, stays),
            minute_K.astype(np.int16),
            _variable(table["parameter"], path),
            value_K,
            len(record_N),
            len(VARIABLES),
        )
    )


def _index(record_K: Any, record_N: Ints, path: Path, stays: Path) -> Any:
    """int32 [K]: which stay a record is."""
    import numpy as np

    order_N = np.argsort(record_N, kind="stable")
    sorted_N = record_N[order_N].astype(record_K.dtype)
    if len(twice := sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]):
        raise ConfigError(f"a stay has one row, but RecordID {twice[0]} has two. Remove one.", Where(stays))
    found_K = np.searchsorted(sorted_N, record_K).clip(max=len(sorted_N) - 1)
    unknown_K = sorted_N[found_K] != record_K
    if unknown_K.any():
        raise ConfigError(
            f"every measurement's stay must be in {stays.name}, but RecordID {record_K[unknown_K.argmax()]} is not. "
            "Add its row, or remove its measurements.",
            Where(path),
        )
    return order_N.astype(np.int32)[found_K]


def _variable(parameter: Any, path: Path) -> Any:
    """int8 [K]: the index of each parameter's name."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = pc.index_in(parameter.cast(pa.string()), pa.array(VARIABLES))
    if coded.null_count:
        odd = parameter.filter(coded.is_null()).cast(pa.string())[0]
        known = ", ".join(VARIABLES)
        raise ConfigError(f"column 'parameter' must be one of {known}, but {odd} is there too. Remove it.", Where(path))
    return np.asarray(coded, np.int8)


def _floats(table: Any, column: str) -> Floats:
    """float32 [N]; null becomes NaN."""
    import numpy as np
    import pyarrow as pa

    return np.asarray(table[column].cast(pa.float32()).to_numpy())


def _table(path: Path, columns: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if absent := [column for column in columns if column not in names]:
            raise ConfigError(
                f"the file must have the columns {', '.join(columns)}, but {', '.join(absent)} is not there; "
                f"it has {', '.join(names)}. Rename or add it.",
                Where(path),
            )
        return pq.read_table(path, columns=list(columns))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"the file must be Parquet, but: {error}", Where(path)) from error

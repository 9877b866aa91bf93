"""ICU stays of the PhysioNet / CinC Challenge 2012, whichever files they came from.

Axes: N stays in order of set and record, K measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    from mtlsearch.data.columns import Floats, Ints, Strings
    from mtlsearch.data.sequences.measurements import Measurements

SETS = ("a", "b", "c")

VARIABLES = (
    *("ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin", "Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS"),
    *("Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "MAP", "MechVent", "Mg", "NIDiasABP", "NIMAP", "NISysABP"),
    *("Na", "PaCO2", "PaO2", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT", "Urine"),
    *("WBC", "Weight", "pH"),
)
"""The 37 channels, by the challenge's names."""

GENDERS = {0: "female", 1: "male"}
UNITS = {1: "coronary care", 2: "cardiac surgery recovery", 3: "medical", 4: "surgical"}
"""ICUType."""


@dataclass(frozen=True)
class Stays:
    """N stays."""

    record_N: Ints
    """Ascending within a set."""
    set_N: Any
    """Strings [N]: a, b or c, ascending."""
    numbers: Mapping[str, Floats]
    """`age` (years), `height` (cm), `weight` (kg) at admission, and the outcomes `death` (0 or 1), `length_of_stay`
    (days), `saps`, `sofa` → float32 [N]; NaN is unknown."""
    gender_N: Floats
    """A key of GENDERS, or NaN."""
    icu_type_N: Floats
    """A key of UNITS, or NaN."""
    measurements: Measurements
    """Time in minutes since admission; the variable is an index of VARIABLES."""
    notes: tuple[str, ...] = ()


def named(code_N: Floats, names: Mapping[int, str], what: str, file: Path) -> Strings:
    """Codes as names; null where unknown. Raises ConfigError for a code that has no name."""
    import numpy as np
    import pyarrow as pa

    known_N = ~np.isnan(code_N)
    if odd := sorted(set(np.unique(code_N[known_N]).tolist()) - set(names)):
        known = ", ".join(f"{code} ({name})" for code, name in names.items())
        raise ConfigError(
            f"{what} must be one of {known}, but {odd[0]:g} is there too. Mend or remove it.", Where(file)
        )
    return pa.array([names[int(code)] if code == code else None for code in code_N.tolist()], pa.string())

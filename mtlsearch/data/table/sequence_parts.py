"""Blocks of sequences → parts: rows as steps, or rows gathered into steps of one length.

Axes: N sequences of a block, R their rows in the table, M their steps, V variables, K measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtlsearch.config.table import SequenceConfig
from mtlsearch.data.columns import Part, StepPart
from mtlsearch.data.sequences.binning import carried, channel_columns, last_before, last_within
from mtlsearch.data.sequences.blocks import blocks
from mtlsearch.data.sequences.measurements import Measurements, of_wide_rows
from mtlsearch.data.sequences.steps import Steps, until_last
from mtlsearch.data.sequences.summaries import summary_columns
from mtlsearch.data.table.kinds import as_floats, as_texts
from mtlsearch.data.table.labels import Labels
from mtlsearch.data.table.sequence_roles import SequenceRoles
from mtlsearch.data.table.sequence_tables import SequenceTables
from mtlsearch.errors import ConfigError, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, Ints, LabelValues, Strings

MOST_STEPS = 100_000
"""More in one sequence are a mistake about the unit of time."""


@dataclass(frozen=True)
class SequenceParts:
    """What makes the parts."""

    config: SequenceConfig
    tables: SequenceTables
    roles: SequenceRoles
    labels: tuple[Labels, ...]
    steps: Steps | None
    """Of all sequences; None where every row is one."""

    def __call__(self) -> Iterator[Part]:
        """All parts, from the first sequence."""
        import numpy as np

        rows_N = np.diff(self.tables.offset_N)
        size_N = rows_N if self.steps is None else np.maximum(rows_N, self.steps.length_N)
        for first, stop in blocks(size_N, len(self.roles.steps.numbers) + len(self.roles.steps.categories)):
            yield self._part(first, stop)

    def _part(self, first: int, stop: int) -> Part:
        import numpy as np

        rows = self._once(first, stop)
        block = self._block(first, stop)
        summaries = {}
        if self.config.summaries:
            summaries = summary_columns(self._measurements(block), self.roles.steps.numbers)
        return Part(
            numeric={name: as_floats(rows[name]).astype(np.float32) for name in self.roles.rows.numbers} | summaries,
            categorical={name: as_texts(rows[name]) for name in self.roles.rows.categories},
            labels={each.task.name: each.floats(rows) for each in self.labels if not each.task.per_step},
            weights={
                each.task.name: as_floats(rows[each.weight]).astype(np.float32)
                for each in self.labels
                if each.weight is not None
            },
            steps=self._rows_as_steps(block) if self.steps is None else self._binned(block, self.steps.of(first, stop)),
        )

    def _once(self, first: int, stop: int) -> dict[str, Any]:
        return {name: _one(self.tables.rows, name, first, stop) for name in self.tables.rows.columns}

    def _block(self, first: int, stop: int) -> Block:
        import numpy as np

        offset_N = self.tables.offset_N[first : stop + 1]
        low, high = int(offset_N[0]), int(offset_N[-1])
        return Block(
            columns={name: _one(self.tables.steps, name, low, high) for name in self.tables.steps.columns},
            sequence_R=np.repeat(np.arange(stop - first), np.diff(offset_N)),
            time_R=np.zeros(high - low) if self.tables.time_R is None else self.tables.time_R[low:high],
            offset_N=offset_N - low,
        )

    def _measurements(self, block: Block) -> Measurements:
        import numpy as np

        names = self.roles.steps.numbers
        if self.config.variable is None or self.config.value is None:
            return block.wide([as_floats(block.columns[name]) for name in names])
        return block.long(
            block.columns[self.config.variable], as_floats(block.columns[self.config.value]).astype(np.float32), names
        )

    def _rows_as_steps(self, block: Block) -> StepPart:
        import numpy as np

        length_N = np.diff(block.offset_N)
        kept_N = length_N if self.config.max_steps is None else np.minimum(length_N, self.config.max_steps)
        left_R = block.offset_N[1:][block.sequence_R] - np.arange(len(block.sequence_R))
        kept_R = left_R <= kept_N[block.sequence_R]
        roles, columns = self.roles.steps, {name: column.filter(kept_R) for name, column in block.columns.items()}
        numeric = {name: as_floats(columns[name]).astype(np.float32) for name in roles.numbers}
        if self.config.time is not None:
            numeric[f"{self.config.time} since the step before"] = block.gaps[kept_R]
        return StepPart(
            length_N=kept_N,
            numeric=numeric,
            categorical={name: as_texts(columns[name]) for name in roles.categories},
            labels={each.task.name: each.floats(columns) for each in self.labels if each.task.per_step},
        )

    def _binned(self, block: Block, steps: Steps) -> StepPart:
        roles = self.roles.steps
        numeric = channel_columns(self._measurements(block), steps, roles.numbers, self.config.channels)
        labels = {each.task.name: each.floats(block.columns) for each in self.labels if each.task.per_step}
        return StepPart(
            length_N=steps.length_N,
            numeric=numeric,
            categorical={name: _last_category(block, name, steps) for name in roles.categories},
            labels={name: _last_label(block, label_R, steps) for name, label_R in labels.items()},
        )


@dataclass(frozen=True)
class Block:
    """Some sequences' rows."""

    columns: Mapping[str, Any]
    sequence_R: NDArray[np.int64]
    time_R: NDArray[np.float64]
    offset_N: Ints

    @property
    def gaps(self) -> Floats:
        """float32 [R]: time since the sequence's row before; 0 at its first."""
        import numpy as np

        gap_R = np.diff(self.time_R, prepend=0.0)
        gap_R[self.offset_N[:-1]] = 0
        return gap_R.astype(np.float32)

    def wide(self, columns: Sequence[Any]) -> Measurements:
        """A variable a column [R]; NaN where it was not measured."""
        import numpy as np

        value_RV = np.empty((len(self.sequence_R), len(columns)), np.float32)
        for variable, column_R in enumerate(columns):
            value_RV[:, variable] = column_R
        return of_wide_rows(self.sequence_R, self.time_R, value_RV, len(self.offset_N) - 1)

    def long(self, variable_R: Any, value_R: Floats, names: Sequence[str]) -> Measurements:
        """A measurement a row; those without a value, or of no variable of these names, are none."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.index_in(as_texts(variable_R), value_set=pa.array(names, pa.string()))
        index_R = np.asarray(pc.fill_null(found, -1), np.int64)
        is_K = (index_R >= 0) & ~np.isnan(value_R)
        sequence_K, time_K = self.sequence_R[is_K], self.time_R[is_K]
        return Measurements(sequence_K, time_K, index_R[is_K], value_R[is_K], len(self.offset_N) - 1, len(names))


def plan_steps(sequence: SequenceConfig, tables: SequenceTables) -> Steps | None:
    """Every sequence's steps; None where a row is one. Raises ConfigError for a sequence with far too many."""
    import numpy as np

    if sequence.step is None:
        return None
    assert tables.time_R is not None
    first_N, last_N = tables.time_R[tables.offset_N[:-1]], tables.time_R[tables.offset_N[1:] - 1]
    start_N = first_N if sequence.start == "first" else np.zeros(len(first_N))
    steps = until_last(start_N, last_N, sequence.step, sequence.max_steps)
    if steps.length_N.max() > MOST_STEPS:
        index = int(steps.length_N.argmax())
        raise ConfigError(
            f"a sequence must have at most {MOST_STEPS:,} steps, but {tables.title_N[index].as_py()!r} lasts "
            f"{last_N[index] - start_N[index]:g} and so has {steps.length_N[index]:,} steps of {sequence.step:g}. "
            "Make data.sequence.step longer (of dates it is in seconds), or set max_steps.",
            Where(tables.steps.file),
        )
    return steps


def _last_category(block: Block, name: str, steps: Steps) -> Strings:
    """The last category so far."""
    import numpy as np
    import pyarrow as pa

    coded = as_texts(block.columns[name]).dictionary_encode()
    code_R = np.asarray(coded.indices.cast(pa.float32()).to_numpy(zero_copy_only=False))
    measurements = block.wide([code_R])
    step_K = steps.at(measurements.sequence_K, measurements.time_K)
    last_1M = last_within(measurements, step_K, steps.total)
    (code_M,) = carried(last_1M, last_before(measurements, step_K), steps)
    missing_M = np.isnan(code_M)
    if not len(coded.dictionary):
        return pa.nulls(len(code_M), pa.string())
    return coded.dictionary.take(pa.array(np.nan_to_num(code_M).astype(np.int64), mask=missing_M))


def _last_label(block: Block, label_R: LabelValues, steps: Steps) -> LabelValues:
    """[M], or [M, L]: the last label within the step. Measurements are float32: what that cuts off float64 labels goes
    beside them."""
    import numpy as np

    label_RL = label_R.reshape(len(label_R), -1)
    near_RL = label_RL.astype(np.float32)
    terms = [near_RL] if label_R.dtype == np.float32 else [near_RL, label_RL - near_RL]
    measurements = block.wide([column_R for term_RL in terms for column_R in term_RL.T])
    last_XM = last_within(measurements, steps.at(measurements.sequence_K, measurements.time_K), steps.total)
    last_LM = np.sum(np.split(last_XM.astype(label_R.dtype), len(terms)), axis=0)
    return last_LM[0] if label_R.ndim == 1 else np.ascontiguousarray(last_LM.T)


def _one(reader: Any, name: str, first: int, stop: int) -> Any:
    """Some rows of a column, as one array."""
    import pyarrow as pa

    column = reader.column(name).slice(first, stop - first).combine_chunks()
    return column if not isinstance(column, pa.ChunkedArray) else pa.concat_arrays(column.chunks)

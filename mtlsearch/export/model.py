"""A model's folder, loaded: what `mtlsearch.load` gives. Needs no search: neither Ray nor Optuna nor W&B."""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safetensors import SafetensorError
from safetensors.torch import load_file

from mtlsearch.config import Task
from mtlsearch.data.columns import SplitName
from mtlsearch.data.table.reader import TableReader, open_table
from mtlsearch.data.table.sequence_tables import MemoryChunk
from mtlsearch.errors import ConfigError, Where
from mtlsearch.export.column_kinds import check_kinds
from mtlsearch.export.encode import Unseen
from mtlsearch.export.model_folder import CONFIG, ModelFolder
from mtlsearch.export.outputs import Runner, column_names, prediction_columns
from mtlsearch.export.raw_rows import BATCH_ROWS, RawRows, category_names, source_rows, split_rows, table_rows
from mtlsearch.export.raw_sequences import SequenceColumns, sequence_rows
from mtlsearch.models import build_model

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY = Path("table")
"""What messages call a table that is no file."""


class UnseenCategory(UserWarning):
    """A category that training did not have: the model takes it for the unknown one."""


class Model:
    """A trained model and the encoders of its raw columns. `mtlsearch.load` makes one."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder, config = folder, folder.config
        model = build_model(config.model, config.inputs, config.tasks, config.seed)
        try:
            model.load_state_dict(load_file(folder.weights))
        except (SafetensorError, RuntimeError) as error:
            raise ConfigError(
                f"the weights must be those of the model in {CONFIG}, but are not. Export the model again.",
                Where(folder.weights),
            ) from error
        self._runner = Runner(model, folder.schema, config.tasks)
        self._names = column_names(config.tasks)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it predicts, in the order of the predictions' columns."""
        return self._folder.config.tasks

    @property
    def learnt_from(self) -> tuple[str, ...]:
        """The files, folders or globs of the experiment's data, where its space file names them."""
        data = self._folder.config.data
        static = data.sequence.static_path if data.source == "table" and data.sequence is not None else None
        return tuple(each for each in (data.path, static) if each is not None)

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self._folder.card

    def program(self) -> Any:
        """The `torch.export.ExportedProgram`; the card has its signature.

        Raises:
            ConfigError: the model could not be traced when it was exported, or the file is none.
        """
        import torch

        place = self._folder.program
        if not zipfile.is_zipfile(place):
            raise ConfigError("the file must be a torch.export program, but is none. Export again.", Where(place))
        return torch.export.load(place)

    def predict(
        self,
        data: pa.Table | Mapping[str, Any] | Any,
        *,
        keep: Sequence[str] = (),
        static: str | Path | None = None,
        allow_unseen: bool = False,
        batch_rows: int = BATCH_ROWS,
    ) -> pa.Table:
        """Predictions of raw rows, in their order.

        Args:
            data: a pyarrow Table, a pandas DataFrame, or arrays by column: the columns that training had, in any
                order; others are ignored.
            keep: columns that pass through, before the predictions.
            static: of long sequences, a file with one row a sequence, where training had one.
            allow_unseen: takes categories that training did not have for unknown ones, and warns `UnseenCategory`.
            batch_rows: rows at a time.
        Returns:
            A column a task: a binary task's probability; a regression in its own unit; of a multiclass task the class
            and, as `task/class`, the probabilities; of a multilabel task the probabilities, as `task/label`. Sequences
            have a row a sequence, and a list where a task has a label a step.
        Raises:
            ConfigError: a column is not there, is there twice, or holds what it must not.
        """
        if batch_rows < 1:
            raise ConfigError(f"batch_rows must be at least 1, found {batch_rows}.")
        unseen = Unseen()
        with _in_memory(data) as reader:
            table = self.table(self.rows_of(reader, keep, unseen, static, batch_rows))
        if not allow_unseen:
            unseen.check("allow_unseen=True")
        for sentence in unseen.sentences:
            warnings.warn(sentence, UnseenCategory, stacklevel=2)
        return table

    def table(self, rows: RawRows) -> pa.Table:
        """Predictions of all rows at once."""
        import pyarrow as pa

        return pa.Table.from_batches(self.batches(rows), self.schema(rows))

    def batches(self, rows: RawRows) -> Iterator[Any]:
        """Predictions as pyarrow RecordBatches, piece by piece."""
        import pyarrow as pa

        schema = self.schema(rows)
        for kept, split in rows.pieces():
            columns = prediction_columns(self.tasks, self._runner.outputs(split))
            yield pa.RecordBatch.from_arrays([*kept, *columns], schema=schema)

    def schema(self, rows: RawRows) -> Any:
        """pyarrow Schema of the predictions.

        Raises:
            ConfigError: a column that passes through is called like a prediction.
        """
        import pyarrow as pa

        if taken := [name for name in rows.kept.names if name in self._names]:
            raise ConfigError(
                f"the predictions have a column {taken[0]!r} already: rename the data's, or do not keep it."
            )
        types = [_type(task, name) for task in self.tasks for name in column_names([task])]
        return pa.schema([*rows.kept, *zip(self._names, types, strict=True)])

    def open_rows(
        self, data: str, keep: Sequence[str], unseen: Unseen, static: str | None, batch_rows: int = BATCH_ROWS
    ) -> RawRows:
        """Rows of a file, a folder or a glob, to be read piece by piece.

        Raises:
            ConfigError: there is no such file, it is damaged, or lacks a column.
        """
        config, schema = self._folder.config.data, self._folder.schema
        place = Path(data).expanduser()
        if config.source != "table" and place.is_dir():
            if keep or static is not None:
                raise ConfigError(f"--keep and --static belong to a table, but {data} is a folder of {config.source}.")
            return source_rows(config, place, schema, unseen)
        missing = config.missing if config.source == "table" else None
        reader = open_table(data, missing, self._overrides(), may_be_empty=True)
        return self.rows_of(reader, keep, unseen, static, batch_rows)

    def split(self, name: SplitName, batch_rows: int = BATCH_ROWS) -> RawRows:
        """Rows of a split of the data that it learnt from.

        Raises:
            ConfigError: the data is gone, or is another now.
        """
        return split_rows(self._folder.config.data, name, self._folder.schema, batch_rows)

    def rows_of(
        self, reader: TableReader, keep: Sequence[str], unseen: Unseen, static: str | Path | None, batch_rows: int
    ) -> RawRows:
        """An open table's rows."""
        config, schema = self._folder.config.data, self._folder.schema
        self._check_kinds(reader)
        if config.source == "table" and config.sequence is not None:
            return sequence_rows(reader, config, schema, keep, unseen, None if static is None else str(static))
        if schema.has_steps:
            raise ConfigError(
                f"the model reads sequences of {config.source}: give a folder in that data set's layout, or --split.",
                Where(reader.file),
            )
        if static is not None:
            raise ConfigError("--static belongs to sequences, but the model reads rows. Leave it out.")
        return table_rows(reader, schema, keep, unseen, batch_rows)

    def _check_kinds(self, reader: TableReader) -> None:
        config, schema = self._folder.config.data, self._folder.schema
        names, texts = [encoder.name for encoder in schema.numeric], category_names(schema.categorical)
        if config.source == "table" and config.sequence is not None:
            columns = SequenceColumns.of(config.sequence, schema)
            names = [name for name in columns.in_table(config.sequence) if name != config.sequence.id]
            names += columns.of_rows
            texts = [*columns.step_categories, *columns.row_categories]
        check_kinds(reader, list(dict.fromkeys([*names, *texts])), self._folder.config.kinds, texts)

    def _overrides(self) -> dict[str, Literal["number", "text"]]:
        """Columns of a CSV file whose type training has settled."""
        config, schema = self._folder.config.data, self._folder.schema
        names = [encoder.name for encoder in schema.numeric]
        if config.source == "table" and config.sequence is not None:
            columns = SequenceColumns.of(config.sequence, schema)
            value = () if config.sequence.value is None else (config.sequence.value,)
            names = [*columns.row_numbers, *(value or columns.step_numbers)]
        texts = category_names((*schema.categorical, *schema.step_categorical))
        return {**dict.fromkeys(names, "number"), **dict.fromkeys(texts, "text")}


def load_model(path: str | Path) -> Model:
    """See `mtlsearch.load`."""
    return Model(ModelFolder.open(Path(path).expanduser()))


def _type(task: Task, name: str) -> Any:
    import pyarrow as pa

    kind = pa.string() if task.kind == "multiclass" and name == task.name else pa.float64()
    return pa.list_(kind) if task.per_step else kind


def _in_memory(data: Any) -> TableReader:
    """A table that is no file, to be read like one."""
    import pyarrow as pa

    pandas = sys.modules.get("pandas")  # who has a DataFrame has imported it
    if isinstance(data, pa.RecordBatch):
        data = pa.Table.from_batches([data])
    elif pandas is not None and isinstance(data, pandas.DataFrame):
        _check_once([str(name) for name in data.columns])
        data = pa.table({str(name): _array(str(name), data[name]) for name in data.columns})
    elif isinstance(data, Mapping):
        data = _of_arrays({str(name): _array(str(name), values) for name, values in data.items()})
    if not isinstance(data, pa.Table):
        raise ConfigError(
            f"the data must be a pyarrow Table, a pandas DataFrame or arrays by column, found {type(data).__name__}. "
            "Files are predicted with `mtlsearch predict`."
        )
    _check_once(data.column_names)
    return TableReader(IN_MEMORY, (MemoryChunk(IN_MEMORY, data),), data.schema, ((IN_MEMORY, data.num_rows),))


def _check_once(names: Sequence[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"every column must have its own name, but {twice[0]!r} is there twice.", Where(IN_MEMORY))


def _array(name: str, values: Any) -> Any:
    """A column's values as pyarrow's; NaN is missing, as it is to pandas."""
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"column {name!r} must be an array of values of one kind, but {error}.", Where(IN_MEMORY)
        ) from error


def _of_arrays(arrays: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    lengths = {name: len(array) for name, array in arrays.items()}
    first = next(iter(lengths), "")
    if odd := [name for name, length in lengths.items() if length != lengths[first]]:
        raise ConfigError(
            f"all columns must have as many rows, but {first!r} has {lengths[first]} and {odd[0]!r} {lengths[odd[0]]}.",
            Where(IN_MEMORY),
        )
    return pa.table(dict(arrays))

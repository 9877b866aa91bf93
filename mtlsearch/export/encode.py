"""Raw columns → a model's inputs, by the encoders that its training rows taught.

Axes: N rows, M steps of sequences, L label columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mtlsearch.config.encoding import UNSEEN
from mtlsearch.data import DataSchema, Split
from mtlsearch.data.columns import Part
from mtlsearch.data.encoders import BinEncoder, CategoricalEncoder, encode_categorical, encode_numeric
from mtlsearch.data.split import StepArrays
from mtlsearch.errors import ConfigError

if TYPE_CHECKING:
    from mtlsearch.data.columns import Indices


@dataclass
class Unseen:
    """Categories that the training rows did not have: how often each column brought one, and an example."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def look(
        self, encoders: Sequence[CategoricalEncoder | BinEncoder], texts: Mapping[str, Any], encoded_NC: Indices
    ) -> None:
        """Counts those of some encoded columns."""
        for column, encoder in enumerate(encoders):
            if isinstance(encoder, CategoricalEncoder):
                unseen_N = encoded_NC[:, column] == UNSEEN
                if count := int(unseen_N.sum()):
                    self.counts[encoder.name] += count
                    self.examples.setdefault(encoder.name, texts[encoder.name][int(unseen_N.argmax())].as_py())

    def check(self, allowed_by: str) -> None:
        """Refuses what was counted so far.

        Raises:
            ConfigError: there was such a category.
        """
        if self.counts:
            raise ConfigError(
                f"{self.sentences[0]} (up to here). Nothing was learnt of it: mend it, or take it for the unknown "
                f"category with {allowed_by}."
            )

    @property
    def sentences(self) -> list[str]:
        """One a column."""
        return [
            f"column {name!r}: {count:,} {'values are' if count > 1 else 'value is'} of a category that training did "
            f"not have, such as {self.examples[name]!r}"
            for name, count in self.counts.items()
        ]


def encode_part(part: Part, num_rows: int, schema: DataSchema, unseen: Unseen) -> Split:
    """The part as the arrays that a model reads, without labels."""
    import numpy as np

    categorical_NC = encode_categorical(schema.categorical, part.categorical, part.numeric, num_rows)
    unseen.look(schema.categorical, part.categorical, categorical_NC)
    return Split(
        name="test",
        numeric_NF=encode_numeric(schema.numeric, part.numeric, num_rows),
        categorical_NC=categorical_NC,
        labels_NL=np.zeros((num_rows, 0), np.float32),
        weights_NW=np.zeros((num_rows, 0), np.float32),
        row_N=np.arange(num_rows),
        steps=_encode_steps(part, schema, unseen),
    )


def unlabelled(split: Split, schema: DataSchema) -> Split:
    """The split with 0 for every label: where a label would count is where a prediction is wanted."""
    import numpy as np

    def zeros(num_rows: int, per_step: bool) -> Any:
        return np.zeros((num_rows, sum(task.num_labels for task in schema.tasks if task.per_step == per_step)), "f4")

    weights_NW = np.ones((split.num_rows, len(schema.weighted)), np.float32)
    split = replace(split, labels_NL=zeros(split.num_rows, False), weights_NW=weights_NW)
    if split.steps is None:
        return split
    return replace(split, steps=replace(split.steps, labels_MJ=zeros(len(split.steps.numeric_MS), True)))


def _encode_steps(part: Part, schema: DataSchema, unseen: Unseen) -> StepArrays | None:
    import numpy as np

    steps = part.steps
    if steps is None:
        return None
    num_steps = int(steps.length_N.sum())
    categorical_MD = encode_categorical(schema.step_categorical, steps.categorical, steps.numeric, num_steps)
    unseen.look(schema.step_categorical, steps.categorical, categorical_MD)
    return StepArrays(
        offset_N=np.concatenate([np.zeros(1, np.int64), np.cumsum(steps.length_N)]),
        numeric_MS=encode_numeric(schema.step_numeric, steps.numeric, num_steps),
        categorical_MD=categorical_MD,
        labels_MJ=np.zeros((num_steps, 0), np.float32),
    )

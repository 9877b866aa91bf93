"""Two regression tasks whose labels have a chosen correlation: Ma et al., KDD 2018, section 3.2.

y_k = w_k·x + Σ_i sin(α_i w_k·x + β_i) + noise, with x ~ N(0, I) and w_k of length c. The paper sets p, the cosine of
w_1 and w_2; the labels' correlation is smaller. Here the correlation is set and p is found, see `synthetic_mmoe_angle`.

The paper does not say α and β: α_i ~ N(0, 1) and β_i ~ N(0, 1) here, drawn from the seed, as are x, the
directions of w and the noise. With six sines and c = 1, p = .5, .75 and .9 then give correlations of about
.37, .62 and .82 in the mean over seeds.

Axes: N rows of a part, D inputs, S sines, K = 2 tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlsearch.config.data import SyntheticMMoEConfig
from mtlsearch.config.encoding import Encoding
from mtlsearch.config.task import Task
from mtlsearch.data.columns import Columns, Part, SplitName
from mtlsearch.data.synthetic_mmoe_angle import Sines, angle_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtlsearch.data.columns import Floats, Ints

TASKS = (Task(name="first", kind="regression"), Task(name="second", kind="regression"))
ROWS_A_PART = 50_000


@dataclass(frozen=True)
class SyntheticMMoE:
    """The source `synthetic_mmoe`."""

    config: SyntheticMMoEConfig
    version: int = 1
    tasks: tuple[Task, ...] = TASKS

    def files(self) -> tuple[Path, ...]:
        """None: it is made, not read."""
        return ()

    def read(self, tasks: Sequence[Task]) -> Columns:
        """Independent rows, so that the splits follow each other.

        Raises:
            ConfigError: the labels cannot have this correlation, whatever p is.
        """
        chosen = [TASKS.index(task) for task in tasks]
        made = Made(self.config)
        return Columns(
            tasks=tuple(tasks),
            rows=_rows(self.config.rows),
            parts=lambda: (_part(x_ND, y_NK, chosen) for x_ND, y_NK in made.parts()),
            encodings=dict.fromkeys(_names(self.config.num_inputs), Encoding(kind="none", indicator=False)),
            notes=(
                f"Measured label correlation {_correlation(made.parts()):.3f} (wanted {self.config.correlation:g}); "
                f"the weights' cosine p is {made.p:.3f}.",
            ),
        )


class Made:
    """What a config makes; the same whenever it is made."""

    def __init__(self, config: SyntheticMMoEConfig) -> None:
        random = _random(config.seed, 0)
        self.config = config
        self.sines = Sines(tuple(random.normal(size=config.num_sines)), tuple(random.normal(size=config.num_sines)))
        self.p = angle_for(config.correlation, self.sines, config.scale, config.noise)
        self._directions_D2 = random.normal(size=(config.num_inputs, 2))

    @cached_property
    def weights(self) -> NDArray[Any]:
        """[D, K]: w_1 = c u_1 and w_2 = c (p u_1 + √(1 − p²) u_2), u_1 and u_2 orthonormal."""
        import numpy as np

        u1_D, u2_D = np.linalg.qr(self._directions_D2)[0].T
        return self.config.scale * np.stack([u1_D, self.p * u1_D + np.sqrt(1 - self.p**2) * u2_D], axis=1)

    def parts(self) -> Iterator[tuple[Floats, Floats]]:
        """x_ND and y_NK, some rows at a time."""
        import numpy as np

        for number, start in enumerate(range(0, self.config.rows, ROWS_A_PART), 1):
            rows, random = min(ROWS_A_PART, self.config.rows - start), _random(self.config.seed, number)
            x_ND = random.normal(size=(rows, self.config.num_inputs))
            noise_NK = self.config.noise * random.normal(size=(rows, 2))
            y_NK = self.sines.plus_linear(x_ND @ self.weights) + noise_NK
            yield x_ND.astype(np.float32), y_NK.astype(np.float32)


def _random(seed: int, part: int) -> Any:
    import numpy as np

    # RandomState, since numpy promises its stream not to change between releases; default_rng's may.
    return np.random.RandomState([abs(seed), int(seed < 0), part])


def _names(num_inputs: int) -> list[str]:
    return [f"x{index}" for index in range(num_inputs)]


def _part(x_ND: Floats, y_NK: Floats, chosen: Sequence[int]) -> Part:
    return Part(
        numeric=dict(zip(_names(x_ND.shape[1]), x_ND.T, strict=True)),
        categorical={},
        labels={TASKS[task].name: y_NK[:, task] for task in chosen},
    )


def _rows(num_rows: int) -> dict[SplitName, Ints]:
    import numpy as np

    tenth = num_rows // 10
    train, validation, test = np.split(np.arange(num_rows), [num_rows - 2 * tenth, num_rows - tenth])
    return {"train": train, "validation": validation, "test": test}


def _correlation(parts: Iterator[tuple[Floats, Floats]]) -> float:
    import numpy as np

    labels_NK = np.concatenate([y_NK for _, y_NK in parts]).astype(np.float64)
    first_N, second_N = (labels_NK - labels_NK.mean(axis=0)).T
    return float(first_N @ second_N / np.sqrt((first_N @ first_N) * (second_N @ second_N)))

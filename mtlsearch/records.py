"""What travels between the search and its trials: an order out, metrics back, a decision, a record at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mtlsearch.config import Config, TrialConfig

Role = Literal["baseline", "trial", "final"]
"""`final`: a trial's configuration, or a single-task baseline, trained again on a fresh seed for the final ranking."""
State = Literal["RUNNING", "COMPLETE", "PRUNED", "FAIL"]
Scores = Mapping[str, Mapping[str, float | None]]
"""Task → metric → value in the task's own units; None where the metric is undefined (one class only)."""


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2³²) from its parts, the same in every process; changing one part changes it all."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


class TrialOrder(Config):
    """What one trial is to do. With the data, it determines every number that the trial reports."""

    number: int
    role: Role
    config: TrialConfig
    seed: int
    epochs: int
    """Most epochs to train."""
    tasks: tuple[str, ...]
    """Tasks to learn, in the data's order; a single-task baseline has one."""
    metric: str
    """What the trial maximises: `delta`, `mean` or `task/metric`."""
    reference: Mapping[str, float] = {}
    """For `delta`: task → main metric of its single-task baseline, on validation."""
    reference_losses: Mapping[str, float] = {}
    """Task → training loss of its single-task baseline's best epoch, where there are baselines."""
    candidate: int | None = None
    """Of a final trial, the trial whose configuration is trained again; None for a single-task baseline."""
    repeat: int = 0
    """Of a final trial, which of the fresh seeds it has; counts from 0."""


class TrialStart(Config):
    """What one start of a trial has, beside its order; no number that the trial reports depends on it."""

    generation: int
    """Larger than at every start before, of this driver and of those before it."""
    workers: int = 1
    """Ranks."""
    chunks: int = 1
    """A batch goes through the model in so many parts."""


class MixtureMetrics(Config):
    """How a mixture of experts is used, on a sample of the validation split."""

    diversity: float
    """Mean entry of the matrix of distances between experts (Aoki et al., arXiv 2106.10595, eq. 4), in [0, 1]. As in
    the article, the diagonal's zeros count."""
    diversity_off_diagonal: float
    """The mean without the diagonal, which does not depend on the number of experts."""
    gate_entropy: Mapping[str, float]
    """Task → entropy, in nats, of its mean gate weights; 0 when one expert gets all, ln E when all get the same."""
    dead_experts: int
    """Experts to which no task gives more than a tenth of an even share."""


class ModelRecord(Config):
    """What a trial's model is, and how it looked inside after its last epoch: model.json."""

    num_parameters: int
    multiply_adds: int
    """A forward pass takes for a row; of a sequence for all of its steps, padding included, the mean over a sample of
    the validation split."""
    epoch: int
    open_experts: Mapping[str, tuple[bool, ...]] | None = None
    """Task → which experts its gate may open, where an architecture closes some."""
    gate_utilization: Mapping[str, tuple[float, ...]] | None = None
    """Task → its mean gate weight for each expert; None where there is no mixture."""
    expert_distance: tuple[tuple[float, ...], ...] | None = None
    """Between experts, the largest being 1."""


class EpochMetrics(Config):
    """What one epoch measured; one line of metrics.jsonl."""

    epoch: int
    """Counts from 1."""
    objective: float
    """What is maximised, on validation."""
    validation: Scores
    train_loss: Mapping[str, float]
    """Task → mean loss over the epoch; squared error in standard deviations, or cross-entropy in nats. A task of which
    no batch had a label is missing."""
    task_weights: Mapping[str, float]
    learning_rate: float
    grad_norm: float
    """Mean over steps of the whole gradient's norm, before clipping."""
    seconds: float
    samples_per_second: float
    """Training rows a second, validation not counted."""
    penalties: Mapping[str, float] = {}
    """The model's own regularisers → mean over the epoch, times their strengths."""
    mixture: MixtureMetrics | None = None
    """None where the model is no mixture of experts."""
    sampling: Mapping[str, Mapping[str, float]] = {}
    """Where batches serve one task: `share` of the steps and `weight` at the end, by task; a dropped one is missing.
    Where they are stratified: `rare`, by task, share of the rows with a class that is rare; empty when none is, and
    batches are any."""


class EpochReport(Config):
    """What a trial tells its driver after an epoch."""

    metrics: EpochMetrics
    model: ModelRecord


def json_of(record: Config) -> str:
    """One line, with NaN and Infinity as json writes them; pydantic would write null, which is no number when read."""
    return json.dumps(record.model_dump(), separators=(",", ":"))


@dataclass(frozen=True)
class Decision:
    """What becomes of a trial after a report; `state` is None while it goes on."""

    state: Literal["COMPLETE", "PRUNED", "FAIL"] | None = None
    reason: str = ""

    @property
    def stops(self) -> bool:
        """Whether the trial ends here."""
        return self.state is not None


CONTINUE = Decision()


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the study knows it."""

    number: int
    role: Role
    state: State
    params: Mapping[str, str | int | float | bool | None]
    """Sampled parameters by their flat names; a baseline has none."""
    value: float | None
    """Objective: of the best epoch when COMPLETE, of the last one when PRUNED."""
    reason: str
    task: str | None = None
    """The task of a single-task baseline, also where it is trained again for the final ranking."""
    candidate: int | None = None
    """Of a final trial, the trial whose configuration is trained again; None for a single-task baseline."""
    repeat: int = 0
    """Of a final trial, which of the fresh seeds it has; counts from 0."""
    intermediate: Mapping[int, float] = field(default_factory=dict)
    """Epoch → objective."""
    folder: str = ""
    """`host:path` of the experiment's folder that the trial is in, where several drivers share the study."""
    here: bool = True
    """Whether that is the folder that is asked. Else what is in it of the trial was left when another took it over."""
    test: Scores | None = None
    """Scores on the test split, as far as the study has them: where several drivers share it."""

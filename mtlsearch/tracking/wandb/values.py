"""What a run holds of a trial: its tags, an epoch's values by flat names, its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlsearch.config import Layered
from mtlsearch.records import EpochMetrics, TrialOrder, TrialRecord
from mtlsearch.report.leaderboard import best_epoch


def tags(order: TrialOrder) -> list[str]:
    """Architecture, balancing, and the kind of expert where there are experts."""
    model = order.config.model
    kinds: set[str] = {model.kind, order.config.balancing.kind}
    if isinstance(model, Layered):
        kinds.add(model.expert.kind)
    return sorted(kinds)


def settings(flat: Mapping[str, object]) -> dict[str, object]:
    """A run's config: `model.hidden` is `model/hidden` there, as W&B's panels cannot find a name with a dot."""
    return {setting(name): value for name, value in flat.items()}


def setting(name: str) -> str:
    """A parameter's name in a run's config."""
    return name.replace(".", "/")


def epoch_values(metrics: EpochMetrics) -> dict[str, float]:
    """Everything that the epoch measured and that is defined."""
    flat: dict[str, float] = {
        "epoch": metrics.epoch,
        "objective": metrics.objective,
        "learning_rate": metrics.learning_rate,
        "grad_norm": metrics.grad_norm,
        "seconds": metrics.seconds,
        "samples_per_second": metrics.samples_per_second,
    }
    for task, scores in metrics.validation.items():
        flat |= {f"{task}/{name}": value for name, value in scores.items() if value is not None}
    flat |= {f"{task}/train_loss": loss for task, loss in metrics.train_loss.items()}
    flat |= {f"{task}/weight": weight for task, weight in metrics.task_weights.items()}
    flat |= {f"penalty/{name}": value for name, value in metrics.penalties.items()}
    flat |= {
        f"{task}/sampling_{what}": value for what, each in metrics.sampling.items() for task, value in each.items()
    }
    if (mixture := metrics.mixture) is not None:
        flat |= mixture.model_dump(exclude={"gate_entropy"})
        flat |= {f"{task}/gate_entropy": entropy for task, entropy in mixture.gate_entropy.items()}
    return flat


def summary(record: TrialRecord, epochs: Sequence[EpochMetrics] = ()) -> dict[str, object]:
    """How the trial ended; of a complete one, whose objective is its best epoch's, that epoch's scores too.

    W&B's own summary has the last epoch's scores, which stay where that is the epoch that the objective is of.
    """
    ended: dict[str, object] = {"objective": record.value, "state": record.state, "reason": record.reason}
    if record.state == "COMPLETE" and (best := best_epoch(epochs)) is not None:
        for task, scores in best.validation.items():
            ended |= {f"{task}/{name}": value for name, value in scores.items()}
        ended["best_epoch"] = best.epoch
    return ended

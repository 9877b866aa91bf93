"""What follows from a space file alone: which configurations may be proposed, and how baselines are trained."""

from __future__ import annotations

from mtlsearch.config import Served, TrialConfig
from mtlsearch.config.trial import DEFAULT_BATCH_SIZE
from mtlsearch.space import Experiment


def admits(experiment: Experiment, served: Served, config: TrialConfig) -> bool:
    """Whether a configuration satisfies the constraints and can serve the tasks at all."""
    return config.model.infeasible(served) is None and experiment.space.violated(config) is None


def baseline_config(experiment: Experiment) -> TrialConfig:
    """How every single-task baseline is trained."""
    baseline = experiment.objective.baseline
    batch_size = baseline.batch_size or experiment.space.fixed("batch_size") or DEFAULT_BATCH_SIZE
    return TrialConfig(model=baseline.model, optimizer=baseline.optimizer, batch_size=batch_size)

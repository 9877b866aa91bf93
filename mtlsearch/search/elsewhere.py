"""Trials that other drivers of a shared study started: their files are in those drivers' folders, so what is known of
them here is what the study holds."""

from __future__ import annotations

from collections.abc import Sequence

from mtlsearch.config import TrialConfig
from mtlsearch.folder import ExperimentFolder
from mtlsearch.records import TrialRecord
from mtlsearch.search.fixed import baseline_config
from mtlsearch.space import read_experiment


def configs_elsewhere(folder: ExperimentFolder, records: Sequence[TrialRecord]) -> dict[int, TrialConfig]:
    """Number → configuration, for those of the trials whose files are not in this folder.

    Args:
        records: all of the study.
    Raises:
        ConfigError: the folder's space file or its plan is damaged.
    """
    away = [record for record in records if not record.here]
    if not away:
        return {}
    experiment = read_experiment(folder.space, tuple(folder.read_plan()["overrides"]))
    params = {record.number: record.params for record in records}
    return {
        record.number: baseline_config(experiment)
        if record.task is not None
        else experiment.space.config(params[record.number if record.candidate is None else record.candidate])
        for record in away
    }

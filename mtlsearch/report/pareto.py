"""Trials that no other trial beats in every task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtlsearch.config import Task
from mtlsearch.config.task import LOWER_IS_BETTER
from mtlsearch.report.experiment import TrialFacts, main_score


def pareto_front(tasks: Sequence[Task], trials: Sequence[TrialFacts]) -> set[int]:
    """Numbers of the trials that no other one is as good as in all tasks and better than in one.

    A trial that lacks a score, or did not train to the end, takes no part.
    """
    scored = {
        trial.number: [
            -value if task.main_metric in LOWER_IS_BETTER else value
            for task in tasks
            if (value := main_score(task, trial)) is not None
        ]
        for trial in trials
        if trial.record.state == "COMPLETE"
    }
    points = {number: row for number, row in scored.items() if len(row) == len(tasks) > 0}
    if not points:
        return set()
    scores_NK = np.array(list(points.values()))
    beaten_N = [bool((_as_good(scores_NK, own_K) & (scores_NK > own_K).any(axis=1)).any()) for own_K in scores_NK]
    return {number for number, beaten in zip(points, beaten_N, strict=True) if not beaten}


def _as_good(scores_NK: NDArray[np.float64], own_K: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((scores_NK >= own_K).all(axis=1))

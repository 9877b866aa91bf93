"""What is trained again for the final ranking, once the search has ended."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from mtlsearch.config import FinalConfig, Task
from mtlsearch.search.attributes import Again


def plan_finals(config: FinalConfig, tasks: Sequence[Task], trials: Sequence[FrozenTrial]) -> list[Again]:
    """Every final trial, in the order in which they start: a seed after the other, so that a ranking that was cut off
    has pairs. None where no trial is complete.

    Args:
        trials: the search's own, all of them ended.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    best = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))[: config.top_k]
    if not best:
        return []
    return [
        again
        for repeat in range(config.seeds)
        for again in (
            *(Again(None, task.name, repeat) for task in tasks),
            *(Again(trial.number, None, repeat) for trial in best),
        )
    ]

"""What a mirror is told."""

from __future__ import annotations

from dataclasses import dataclass

from mtlsearch.records import Decision, EpochMetrics, TrialOrder, TrialRecord


@dataclass(frozen=True)
class SearchState:
    """The search as a whole, at one moment."""

    counts: dict[str, int]
    """State → trials of the search in it; baselines not counted."""
    num_trials: int
    """Trials that the budget allows."""
    baselines_done: int
    num_baselines: int
    best: TrialRecord | None
    best_scores: EpochMetrics | None
    """The best trial's best epoch."""
    seconds: float
    """Since the search began, earlier drivers included."""
    seconds_left: float | None
    """Of the wall budget; None without one."""
    finals_done: int = 0
    """Trials of the final ranking that have ended."""
    num_finals: int = 0
    """Trials of the final ranking, at most."""


class Tracker:
    """Hears everything and may ignore it. A mirror that fails must not disturb the search: it says so and goes on."""

    def search_started(self, name: str, state: SearchState) -> None:
        """Before the first trial."""

    def trial_started(self, order: TrialOrder, flat: dict[str, object]) -> None:
        """A trial begins, or goes on after a crash. `flat`: its configuration by flat names."""

    def epoch_finished(self, order: TrialOrder, metrics: EpochMetrics, decision: Decision) -> None:
        """An epoch was measured and decided on."""

    def trial_restarted(self, order: TrialOrder, reason: str) -> None:
        """A trial lost its processes, or has to do with less; it is taken up again from its last checkpoint."""

    def trial_finished(self, order: TrialOrder, record: TrialRecord, state: SearchState) -> None:
        """A trial ended, in whatever way."""

    def search_finished(self, state: SearchState) -> None:
        """After the last trial, or when the search is interrupted."""

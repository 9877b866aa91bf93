"""Weights & Biases: runs while a search runs, the leaderboard, a workspace, and what sends the rest later."""

from mtlsearch.tracking.wandb.tracker import WandbTracker

__all__ = ["WandbTracker"]

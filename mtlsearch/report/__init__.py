"""Results for people, from what the experiment's folder holds."""

from mtlsearch.report.leaderboard import Leaderboard, read_leaderboard

__all__ = ["Leaderboard", "read_leaderboard"]

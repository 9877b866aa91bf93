"""Results for people, from what the experiment's folder holds."""

from mtlsearch.report.leaderboard import Leaderboard, read_leaderboard
from mtlsearch.report.terminal_table import SHOWN_TRIALS, short, terminal_table

__all__ = ["SHOWN_TRIALS", "Leaderboard", "read_leaderboard", "short", "terminal_table"]

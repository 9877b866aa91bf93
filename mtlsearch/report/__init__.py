"""Results for people, from what the experiment's folder holds."""

from mtlsearch.report.final import FinalRanking, FinalRow, read_final
from mtlsearch.report.final_table import final_notes, final_table
from mtlsearch.report.leaderboard import Leaderboard, read_leaderboard
from mtlsearch.report.terminal_table import SHOWN_TRIALS, short, terminal_table

__all__ = [
    "SHOWN_TRIALS",
    "FinalRanking",
    "FinalRow",
    "Leaderboard",
    "final_notes",
    "final_table",
    "read_final",
    "read_leaderboard",
    "short",
    "terminal_table",
]

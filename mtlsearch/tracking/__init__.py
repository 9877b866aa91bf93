"""Mirrors of a search for people to look at. The experiment's folder is the truth; nothing here is read back."""

from mtlsearch.tracking.base import SearchState, Tracker
from mtlsearch.tracking.terminal import terminal_tracker

__all__ = ["SearchState", "Tracker", "terminal_tracker"]

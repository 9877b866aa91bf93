"""Puts the search, the trials and the mirrors together, on Ray or in this process."""

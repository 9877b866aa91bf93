"""The winner, used: a trial as a folder of its own, read back without a search, and its predictions of raw rows."""

"""One Optuna study: it proposes configurations, takes reports, decides, and is all that a resume needs."""

from mtlsearch.search.journal import mend
from mtlsearch.search.search import Search
from mtlsearch.search.study import read_records

__all__ = ["Search", "mend", "read_records"]

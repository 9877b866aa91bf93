"""One Optuna study: it proposes configurations, takes reports, decides, and is all that a resume needs."""

from mtlsearch.search.journal import mend
from mtlsearch.search.search import Search, first_configurations
from mtlsearch.search.study import read_records

__all__ = ["Search", "first_configurations", "mend", "read_records"]

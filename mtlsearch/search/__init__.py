"""One Optuna study: it proposes configurations, takes reports, decides, and is all that a resume needs."""

from mtlsearch.search.journal import mend
from mtlsearch.search.search import Search, first_configurations
from mtlsearch.search.study import read_records
from mtlsearch.search.warm_start import Earlier, read_earlier

__all__ = ["Earlier", "Search", "first_configurations", "mend", "read_earlier", "read_records"]

"""One Optuna study: it proposes configurations, takes reports, decides, and is all that a resume needs."""

from mtlsearch.search.journal import mend
from mtlsearch.search.place import study_of
from mtlsearch.search.reading import read_records
from mtlsearch.search.search import Search, check_storage, first_configurations
from mtlsearch.search.warm_start import Earlier, read_earlier

__all__ = [
    "Earlier",
    "Search",
    "check_storage",
    "first_configurations",
    "mend",
    "read_earlier",
    "read_records",
    "study_of",
]

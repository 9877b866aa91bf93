"""The experiment's folder, wherever it lies: on a disk, on a shared mount, in an object store."""

from mtlsearch.folder.experiment import ExperimentFolder, check_new
from mtlsearch.folder.trial import TrialFolder

__all__ = ["ExperimentFolder", "TrialFolder", "check_new"]

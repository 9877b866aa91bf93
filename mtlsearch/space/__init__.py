"""The search space: domains, conditional choices, constraints, and the file that describes them. No torch."""

from mtlsearch.space.choosers import Random, Replay
from mtlsearch.space.constraint import Constraint
from mtlsearch.space.domain import CategoryDomain, Domain, FloatDomain, IntDomain, Scalar
from mtlsearch.space.experiment import Experiment, read_experiment
from mtlsearch.space.flatten import flatten
from mtlsearch.space.schema import json_schema
from mtlsearch.space.space import Space
from mtlsearch.space.tree import Chooser

__all__ = [
    "CategoryDomain",
    "Chooser",
    "Constraint",
    "Domain",
    "Experiment",
    "FloatDomain",
    "IntDomain",
    "Random",
    "Replay",
    "Scalar",
    "Space",
    "flatten",
    "json_schema",
    "read_experiment",
]

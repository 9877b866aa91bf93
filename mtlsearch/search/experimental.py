"""Optuna calls some parts experimental for years; we use them on purpose, and users need not hear of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import ExperimentalWarning


@contextmanager
def used_on_purpose() -> Iterator[None]:
    """No warning that what is made inside is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield

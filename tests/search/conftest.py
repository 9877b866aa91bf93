"""Shared by the tests of the search."""

from conftest_postgresql import database, server
from conftest_search import read

__all__ = ["database", "read", "server"]

"""Shared by the tests of the search."""

from conftest_search import read

__all__ = ["read"]

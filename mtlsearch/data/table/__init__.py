"""The user's own table: files of any size → columns, labels, splits."""

from mtlsearch.data.table.source import Table

__all__ = ["Table"]

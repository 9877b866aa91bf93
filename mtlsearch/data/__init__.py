"""Data sets as tasks, typed columns and memory-mapped Arrow files; numpy and pyarrow load on use."""

from mtlsearch.data.schema import DataSchema
from mtlsearch.data.sources import tasks_of
from mtlsearch.data.split import Split
from mtlsearch.data.store import Store, open_store

__all__ = ["DataSchema", "Split", "Store", "open_store", "tasks_of"]

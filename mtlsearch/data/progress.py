"""How far a conversion has come, for whoever wants to show it. Nobody listens unless `shown_by` says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Listener(Protocol):
    """Who shows a conversion's progress."""

    def begin(self, source: str) -> None:
        """A conversion of this source begins."""

    def advance(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """`done` counts up within a stage; `total` is None where it is not known."""

    def end(self) -> None:
        """It has ended, well or not."""


_listeners: list[Listener] = []
"""The last one listens. Not a context variable: pyarrow reads a stream from a thread of its own."""


def report(stage: str, done: int, total: int | None, unit: str = "rows") -> None:
    """Says how much of a stage is done. Cheap, but not for every row: a part or a file at a time."""
    if _listeners:
        _listeners[-1].advance(stage, done, total, unit)


@contextmanager
def conversion_of(source: str) -> Iterator[None]:
    """Within it a source is converted."""
    if not _listeners:
        yield
        return
    listener = _listeners[-1]
    listener.begin(source)
    try:
        yield
    finally:
        listener.end()


@contextmanager
def shown_by(listener: Listener) -> Iterator[None]:
    """Within it the listener hears of this process's conversions."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

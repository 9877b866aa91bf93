"""Whether the other drivers of a study live: each adds one to its row every few seconds, and looks at theirs.

What counts is how often this driver has said that it lives while another one said nothing, so neither clocks that
differ nor a server that was away for an hour make anybody look dead.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import sqlalchemy as sa

from mtlsearch.search.place import Database
from mtlsearch.search.postgresql import DRIVERS, is_outage, open_engine

BEAT_SECONDS = 5.0
"""Between two beats."""

SILENT_BEATS = 12
"""A driver of which nothing was heard for so many beats of this one is gone."""

GONE = "gone"
"""In the place of a driver's process: nothing was heard of it, and its trials go to others."""

_FRESH_BEATS = 2
"""What is seen at this driver's next beat may have happened before the one that it is counted from."""


@dataclass
class _Other:
    """What was heard of another driver."""

    process: str
    beats: int
    at: int
    """This driver's beat at which that was first seen."""
    is_new: bool = False
    """Whether it came after this driver began to listen."""


class Heartbeat:
    """Beats in a thread of its own from `start` to `stop`, or until another process takes the driver's place.

    Args:
        process: this driver's name for itself in its row.
    """

    def __init__(self, place: Database, study_id: int, process: str) -> None:
        self._driver, self._study_id, self._process = place.driver, study_id, process
        self._engine = open_engine(place)  # of its own: who uses another's must not close it before that one has ended
        self._others: dict[str, _Other] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mtlsearch heartbeat", daemon=True)
        self.count = 0
        """Beats so far that reached the database."""

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Beats no more; returns at once."""
        self._ended.set()

    def is_silent(self, driver: str) -> bool:
        """Whether the driver is taken for gone."""
        other = self._others.get(driver)
        return other is not None and (other.process == GONE or self.count - other.at >= SILENT_BEATS)

    def process_of(self, driver: str) -> str:
        """The process of which was heard, or not, last."""
        return self._others[driver].process

    def was_heard(self, driver: str, since: int) -> bool:
        """Whether the driver certainly lived after this one's beat `since`."""
        other = self._others.get(driver)
        if other is None or other.process == GONE:
            return False
        return other.is_new and other.at >= since + _FRESH_BEATS

    def _run(self) -> None:
        try:
            while not self._ended.is_set() and self._tries_to_beat():
                self._ended.wait(BEAT_SECONDS)
        finally:
            self._engine.dispose()

    def _tries_to_beat(self) -> bool:
        """False when there is no use in trying again."""
        try:
            return self._beat()
        except sa.exc.SQLAlchemyError as error:
            return is_outage(error)  # anything else the driver's next transaction meets too, and says

    def _beat(self) -> bool:
        """False when the row is another process's by now."""
        in_study = DRIVERS.c.study_id == self._study_id
        own = (in_study, DRIVERS.c.driver == self._driver, DRIVERS.c.process == self._process)
        with self._engine.begin() as connection:
            beat = sa.update(DRIVERS).where(*own).values(beats=DRIVERS.c.beats + 1)
            if not connection.execute(beat).rowcount:
                return False
            columns = (DRIVERS.c.driver, DRIVERS.c.process, DRIVERS.c.beats)
            found = connection.execute(sa.select(*columns).where(in_study)).all()
        count = self.count + 1
        for driver, process, beats in found:
            before = self._others.get(driver)
            if before is None or (before.process, before.beats) != (process, beats):
                self._others[driver] = _Other(process, beats, at=count, is_new=before is not None)
        self.count = count
        return True

"""Why a trial's processes ended before the trial did, and what follows from it.

Tune knows failures, and counts them. A search needs to know whose failure it was: a machine's is no trial's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import dropwhile
from textwrap import shorten
from typing import Literal

from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayTaskError
from ray.exceptions import OutOfMemoryError as RayOutOfMemoryError

from mtlsearch.folder.files import is_disk_full
from mtlsearch.folder.storage import StorageLost

Kind = Literal["preempted", "node_lost", "process_lost", "hung", "out_of_memory", "disk_full", "storage_lost", "error"]
"""`preempted` and `node_lost` happen to a trial, however often; `process_lost`, `hung` and `error` may be its own
doing, so they are counted; `out_of_memory` is tried once more with half of it; `disk_full` and `storage_lost` are for
people to mend."""

MOST_OF_A_REASON = 500
"""Characters of an error that stand beside its trial; some errors list all that is wrong."""

_NODE_DIED = ("its node has died", "node was terminated", "Node died", "node failure")
_NO_MEMORY = ("running low on memory", "memory pressure", "OutOfMemory")


@dataclass(frozen=True)
class Fault:
    """Why, in words that stand beside the trial."""

    kind: Kind
    reason: str


class TrialEnded(Exception):
    """A trial's own word on why it cannot go on in this process; `fault_of` finds it under Ray's wrappings."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(kind, reason)
        self.fault = Fault(kind, reason)


def fault_of(error: BaseException | None, text: str = "") -> Fault:
    """What an exception of a rank, or of the driver's call to it, comes down to.

    Args:
        error: as Ray raised it; None when only its text is known.
        text: the error as Ray wrote it down.
    """
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return fault_of(error.cause)
    if isinstance(error, TrialEnded):
        return error.fault
    from mtlsearch.train.memory import is_out_of_memory  # torch: not before something failed

    words = reason_of(text or f"{error}")
    if isinstance(error, GetTimeoutError):
        return Fault("hung", f"a rank did not answer in time: {words}")
    if isinstance(error, RayOutOfMemoryError) or (error is not None and is_out_of_memory(error)):
        return Fault("out_of_memory", words)
    if is_disk_full(error):
        return Fault("disk_full", words)
    if isinstance(error, StorageLost):
        return Fault("storage_lost", words)
    if isinstance(error, RayActorError):
        return _death(error, words)
    return Fault("error", words if isinstance(error, RayTaskError) or text else f"{type(error).__name__}: {words}")


def reason_of(text: str) -> str:
    """The last failure's own words: the error below the frames of a traceback, the first line of anything else."""
    lines = [line for line in text.splitlines() if line.strip()]
    frames = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    below = dropwhile(lambda line: line.startswith(" "), lines[frames[-1] + 1 :] if frames else ())
    reason = " ".join(line.strip() for line in below) or (lines[0].strip() if lines else "no reason was given")
    return shorten(reason, MOST_OF_A_REASON, placeholder=" …")


def _death(error: RayActorError, words: str) -> Fault:
    """Ray tells what became of a process in prose only, with a few facts as `name: value` on lines of their own."""
    text = str(error)
    facts = dict(re.findall(r"^\s*(pid|ip): (\S+)$", text, re.MULTILINE))
    who = f"process {facts.get('pid', '?')} on {facts.get('ip', 'a host that is gone')}"
    if error.preempted:
        return Fault("preempted", f"the node of {who} was preempted")
    if any(words in text for words in _NODE_DIED):
        return Fault("node_lost", f"the node of {who} is gone")
    if any(words in text for words in _NO_MEMORY):
        return Fault("out_of_memory", f"{who} was ended: its host ran out of memory")
    if isinstance(error, ActorUnavailableError):  # Ray did not come to know what became of it
        return Fault("process_lost", "its process could not be reached any more")
    return Fault("error", words) if error.actor_init_failed else Fault("process_lost", f"{who} died")

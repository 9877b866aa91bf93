"""A command run as a user runs it: timed from outside, its lines stamped as they come, nothing of it left behind."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

VERSIONED = ("mtlsearch", "ray", "optuna", "torch", "numpy", "scikit-learn", "pyarrow", "pandas")
SECONDS_TO_INTERRUPT = 60.0
"""After Ctrl-C, until the command is killed."""


@dataclass
class Run:
    """What a command did. Times are seconds since it was spawned."""

    command: list[str]
    spawned: float
    """Seconds since 1970, to place times that the command wrote down itself."""
    lines: list[tuple[float, str]] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    """User and system time of the command and of what it waited for. Ray's workers are not among that."""
    machine_cpu: float = 0.0
    """Time that the machine's cores were busy meanwhile; on a quiet machine the command's, with all its workers."""
    code: int = 0
    stopped: bool = False
    """Whether it was interrupted because it had shown what was asked for."""

    def first(self, holds: Callable[[str], bool]) -> float | None:
        """When the first such line came."""
        return next((seconds for seconds, line in self.lines if holds(line)), None)

    def expect(self, *codes: int) -> Run:
        """This run, if it ended so or was stopped by us."""
        if not self.stopped and self.code not in codes:
            tail = "\n".join(line for _, line in self.lines[-20:])
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.code}:\n{tail}")
        return self


Watch = Callable[[float, str], bool]
"""(seconds, line) → whether the command has shown enough and is to be interrupted."""


def run(command: Sequence[str | Path], environment: dict[str, str], watch: Watch | None = None) -> Run:
    """Runs a command to its end, or until `watch` has seen enough; then as if Ctrl-C were pressed."""
    words = [str(word) for word in command]
    result = Run(words, time.time())
    busy, start = _busy_seconds(), time.perf_counter()
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_listen_to_interrupts,
    )
    try:
        _read(process, result, start, watch)
        _, status, usage = os.wait4(process.pid, 0)
        result.wall = time.perf_counter() - start
        result.machine_cpu = _busy_seconds() - busy
        result.cpu = usage.ru_utime + usage.ru_stime
        result.code = process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it left
    return result


def _listen_to_interrupts() -> None:
    """A shell's background job ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _read(process: subprocess.Popen[str], result: Run, start: float, watch: Watch | None) -> None:
    assert process.stdout is not None
    killer = threading.Timer(SECONDS_TO_INTERRUPT, process.kill)
    for line in process.stdout:
        seconds = time.perf_counter() - start
        result.lines.append((seconds, line.rstrip("\n")))
        if watch is not None and not result.stopped and watch(seconds, line):
            result.stopped = True
            process.send_signal(signal.SIGINT)
            killer.start()
    killer.cancel()


def _busy_seconds() -> float:
    """Of all cores since the machine started; 0 where there is no /proc."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _wait, interrupts, soft, *_ = map(int, path.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def environment(home: Path) -> dict[str, str]:
    """Everything that the commands would write to a user's home and temp folder goes to `home`."""
    private = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "RAY_TMPDIR": str(home),
        "MTLSEARCH_CACHE": str(home / "cache"),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }
    return {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))} | private


def circumstances() -> dict[str, Any]:
    """Date, versions and machine."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in VERSIONED},
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "cpu": _cpu_model(),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": os.getloadavg()[0],
        },
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")

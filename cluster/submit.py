"""What `ray submit` runs on the head: a command of mtlsearch, on the cluster.

    ray submit cluster/config.yaml cluster/submit.py -- run search_spaces/census.yaml --out experiments/census

Paths are the head's, relative to the login's home. `ray submit` joins the arguments with spaces and a shell reads them
again: write `--set data.tasks=[income,marital]` without spaces, or double the quotes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

ON_A_CLUSTER = ("run", "resume")
"""The commands that take --address."""


def command(arguments: Sequence[str]) -> list[str]:
    """The command line, on this cluster where the command can be and nothing else is said."""
    words = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not words:
        raise SystemExit("mtlsearch: no command. Write: ray submit CONFIG cluster/submit.py -- run SPACE.YAML")
    elsewhere = any(word.split("=")[0] in ("--address", "--engine", "--dry-run", "-h", "--help") for word in words)
    if words[0] in ON_A_CLUSTER and not elsewhere:
        words += ["--address", "auto"]
    return [_program(), *words]


def main() -> int:
    """Runs it, says where its results are; its exit code."""
    line = command(sys.argv[1:])
    before = _experiments()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell that starts us in the background has it ignored
    process = subprocess.Popen(line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the search too, which then ends in good order
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    code = process.wait()
    for place in _places(line[1:], sorted(_experiments() - before)):
        sys.stdout.write(f"results on {os.uname().nodename}: {place}\n")
    return code if code >= 0 else 128 - code


def _experiments() -> set[Path]:
    return {plan.parent.resolve() for plan in Path("experiments").glob("*/plan.json")}


def _places(words: Sequence[str], new: Sequence[Path]) -> list[str]:
    """What was named, else the folders that are new."""
    out = next((after for word, after in pairwise(words) if word == "--out"), None)
    out = next((word.removeprefix("--out=") for word in words if word.startswith("--out=")), out)
    if out is None:
        return [str(path) for path in new]
    return [out if "://" in out else str(Path(out).resolve())]


def _program() -> str:
    beside = Path(sys.executable).with_name("mtlsearch")
    found = str(beside) if beside.exists() else shutil.which("mtlsearch")
    if found is None:
        raise SystemExit("mtlsearch: not installed for this Python; `ray up` installs it by setup_commands")
    return found


if __name__ == "__main__":
    sys.exit(main())

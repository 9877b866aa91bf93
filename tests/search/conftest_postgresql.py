"""A real PostgreSQL server of one's own, as Debian's package has it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Server:
    """A server in a folder, on a port of the loopback."""

    programs: Path
    folder: Path
    port: int

    def control(self, *arguments: str) -> None:
        """`pg_ctl`; it waits until the server has done what it was told."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", options, "-w", "-s", *arguments)

    def initialise(self) -> None:
        """Makes the server's files."""
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", "searcher", "--no-sync")

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """As a space file has it."""
        return f"postgresql://searcher@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        as_user = {"user": _UNPRIVILEGED, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, check=True, **as_user)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Runs while the tests do."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="mtlsearch-pg-"))  # not under pytest's own, which is closed to other users
    if os.geteuid() == 0:
        shutil.chown(folder, _UNPRIVILEGED)
    running = Server(programs, folder, _free_port())
    try:
        running.initialise()
        running.control("start")
        yield running
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            running.control("stop", "-m", "immediate")
        shutil.rmtree(folder)


@pytest.fixture
def database(server: Server) -> str:
    """The URL of an empty database."""
    return server.database("studies")


def _programs() -> Path | None:
    """Debian has a folder for each version, and none on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("pg_ctl")
    paths = [*([Path(on_path)] if on_path else []), *found]
    return paths[-1].parent if paths else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

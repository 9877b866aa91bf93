"""Hosts on this machine: each has a network address, processes, home, temp and shared memory of its own.

A host is a set of Linux namespaces behind a bridge that stands in a network namespace of its own, so that nothing of
the machine's network is touched. Processes, mounts and interfaces belong to their namespaces: they end with the
host's first process, which the kernel ends with the process that made it, also when that one is killed.

    with Network.open() as network:
        one, two = network.add("one", "10.77.0.1"), network.add("two", "10.77.0.2")
        one.run("ping", "-c1", two.address)
        with network.cut(two):
            ...
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("/home/user")
"""Where a host's only user lives."""

COVERED = (Path("/home"), Path("/tmp"), Path("/var/tmp"), Path("/mnt"), Path("/run"))
"""What is a host's own; what it must see of the machine below these is mounted back."""

TOOLS = ("unshare", "nsenter", "setpriv", "ip", "ssh", "ssh-keygen", "rsync", "git")
SSHD = "/usr/sbin/sshd"

_NAMESPACES = ("--net", "--uts", "--ipc", "--pid", "--mount")
_ENDED_WITH_US = ("setpriv", "--pdeathsig=KILL")
_END_SECONDS = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def why_not() -> str | None:
    """Why hosts cannot be made here; None when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + [SSHD] * (not Path(SSHD).exists())
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: openssh-server, openssh-client, iproute2, rsync, git)"
    if os.geteuid() != 0:
        return "namespaces with addresses of their own take root"
    probe = ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "probe", "type", "bridge"]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"this machine makes no namespaces: {tried.stderr.strip()}"


@dataclass
class Host:
    """One host.

    Attributes:
        folder: its home and temp, seen from outside.
        pid: of its first process, seen from outside.
        keeps: paths of the machine that it sees.
        environment: of every command.
        started: the commands that `start` started.
    """

    name: str
    address: str
    folder: Path
    pid: int
    keeps: tuple[Path, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Its home, seen from outside."""
        return self.folder / "home" / HOME.name

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs a command on this host, in its home and with nothing of our environment."""
        variables = {"HOME": str(HOME), "USER": "root", "LOGNAME": "root", "PATH": _PATH, "LANG": "C.UTF-8"}
        variables |= self.environment | dict(environment or {})
        enter = ["nsenter", f"--target={self.pid}", "--net", "--uts", "--ipc", "--pid", "--mount", f"--wdns={HOME}"]
        return [*enter, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *arguments]

    def run(
        self, *arguments: str, timeout: float = 60, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; its standard output and error come as one text.

        Raises:
            AssertionError: it failed, or took longer than `timeout` seconds.
        """
        line = " ".join(arguments)
        process = subprocess.Popen(
            self.command(*arguments, environment=environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._end(process)
            output, _ = process.communicate()
            raise AssertionError(f"{self.name}: `{line}` ran past {timeout} s:\n{output}") from None
        except BaseException:
            self._end(process)
            raise
        if check and process.returncode != 0:
            raise AssertionError(f"{self.name}: `{line}` ended with {process.returncode}:\n{output}")
        return subprocess.CompletedProcess(list(arguments), process.returncode, output)

    def start(
        self, *arguments: str, output: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a command that runs beside us; it ends with the host at the latest.

        Args:
            output: the file that takes its output; without it there is none.
        """
        with ExitStack() as stack:
            sink = stack.enter_context(output.open("ab")) if output is not None else subprocess.DEVNULL
            process = subprocess.Popen(
                self.command(*arguments, environment=environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def serve_ssh(self, public_key: str, *settings: str) -> None:
        """Starts an SSH server that lets the key's owner in.

        Args:
            settings: more lines of its sshd_config.
        """
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(public_key)
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/sshd/host_key")
        lines = ["HostKey /run/sshd/host_key", f"ListenAddress {self.address}", "PidFile none", "UsePAM no"]
        lines += ["PasswordAuthentication no", *settings]
        (self.folder / "tmp" / "sshd_config").write_text("\n".join(lines) + "\n")
        self.run("cp", "/tmp/sshd_config", "/run/sshd/config")
        self.run("rm", "/tmp/sshd_config")
        self.run(SSHD, "-f", "/run/sshd/config")  # it goes to the background when it listens

    def processes(self) -> dict[int, str]:
        """What runs on it, by the number it has there: the command lines. Its first process is not among them."""
        own, found = Path(f"/proc/{self.pid}/ns/pid").readlink(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns" / "pid").readlink() != own:
                    continue
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                numbers = re.findall(r"^NSpid:.*\t(\d+)$", (entry / "status").read_text(), re.MULTILINE)
            except OSError:  # it ended meanwhile
                continue
            if line and numbers != ["1"] and line != "sleep infinity":  # without a line: it waits to be reaped
                found[int(numbers[0])] = line
        return found

    def _end(self, process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Network:
    """Hosts that reach each other and nothing else."""

    folder: Path
    hosts: list[Host] = field(default_factory=list)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _switch: int = 0

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Network]:
        """A network without hosts. All that it and its hosts started has ended when this is left."""
        with tempfile.TemporaryDirectory(prefix="mtlsearch-hosts-", ignore_cleanup_errors=True) as folder:
            network = cls(Path(folder))
            try:
                network._switch = network._namespace(
                    ["--net", "--pid"], "ip link add switch type bridge && ip link set switch up"
                )
                yield network
            finally:
                network._close()

    def add(self, name: str, address: str, *, keep: tuple[Path, ...] = ()) -> Host:
        """One more host.

        Args:
            address: its own, in a network of 256.
            keep: paths of the machine that it must see, beside this repository and this Python.
        """
        folder = self.folder / name
        for part in ("home/user", "tmp", "etc"):
            (folder / part).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        (folder / "etc" / "passwd").write_text(_passwd())
        (folder / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        kept = {ROOT, Path(sys.prefix), Path(sys.base_prefix), *(path.resolve() for path in keep)}
        host = Host(name, address, folder, 0, tuple(sorted(kept)))
        self.boot(host)
        return host

    def boot(self, host: Host) -> None:
        """The host has power, for the first time or again: nothing runs on it, and its files are as they were."""
        host.pid = self._namespace([*_NAMESPACES, "--mount-proc"], _own_places(host.name, host.folder, host.keeps))
        port = f"to-{host.name}"
        self._on_switch("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self._on_switch("ip", "link", "set", port, "master", "switch", "up")
        host.run("ip", "link", "set", "lo", "up")
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        self.hosts.append(host)

    @contextmanager
    def cut(self, host: Host) -> Iterator[None]:
        """Nothing reaches the host, nor leaves it, inside."""
        self._on_switch("ip", "link", "set", f"to-{host.name}", "down")
        try:
            yield
        finally:
            self._on_switch("ip", "link", "set", f"to-{host.name}", "up")

    def end(self, host: Host) -> None:
        """The host loses its power: every process on it is gone at once, and so is its end of the cable."""
        os.kill(host.pid, signal.SIGKILL)
        for process in host.started:
            process.wait(_END_SECONDS)
        until = time.monotonic() + _END_SECONDS
        while f"to-{host.name}" in self._on_switch("ip", "-o", "link", "show"):
            assert time.monotonic() < until, f"{host.name}: its cable is still there"
            time.sleep(0.1)
        self.hosts.remove(host)

    def _namespace(self, namespaces: list[str], script: str) -> int:
        """Runs the script as a namespace's first process, which stays; its number, seen from outside."""
        wait = "echo ready; sleep infinity & wait"  # bash, as the first process, reaps what daemons leave
        made = subprocess.Popen(
            [*_ENDED_WITH_US, "unshare", *namespaces, "--fork", "--kill-child=KILL", "bash", "-c", f"{script}\n{wait}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started.append(made)
        assert made.stdout is not None
        said = made.stdout.readline()
        assert said == b"ready\n", f"no host: {said.decode()}"
        return int(Path(f"/proc/{made.pid}/task/{made.pid}/children").read_text().split()[0])

    def _on_switch(self, *arguments: str) -> str:
        line = ["nsenter", f"--target={self._switch}", "--net", *arguments]
        return subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout

    def _close(self) -> None:
        """Ends everything: hosts first, so that the switch has no ports left."""
        for made in reversed(self._started):
            _kill_tree(made)
        for process in (process for host in self.hosts for process in host.started):
            process.wait(_END_SECONDS)
        self._started.clear()
        self.hosts.clear()


def _kill_tree(made: subprocess.Popen[bytes]) -> None:
    """Ends a namespace's first process, and with it all the others, and waits until they are gone."""
    children = Path(f"/proc/{made.pid}/task/{made.pid}/children")
    first = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    try:
        made.wait(_END_SECONDS)  # it ends when its child has, which ends after every process of its namespace
    except subprocess.TimeoutExpired:
        made.kill()
        made.wait()
    if made.stdout is not None:
        made.stdout.close()
    until = time.monotonic() + _END_SECONDS
    while any(Path(f"/proc/{pid}").exists() for pid in first) and time.monotonic() < until:
        time.sleep(0.05)


def _own_places(name: str, folder: Path, kept: Sequence[Path]) -> str:
    """The shell script that gives a host its name and places. What it keeps is held aside while they are covered."""
    aside = "/dev/shm/aside"
    lines = ["set -eu", f"hostname {name}", "mount -t tmpfs -o size=2g tmpfs /dev/shm", f"mkdir {aside}"]
    hidden = [path for path in kept if any(path.is_relative_to(cover) for cover in COVERED)]
    for index, path in enumerate([folder, *hidden]):
        lines += [f"mkdir {aside}/{index}", f"mount --rbind {shlex.quote(str(path))} {aside}/{index}"]
    lines += [f"mount --bind {aside}/0/{place} /{place}" for place in ("home", "tmp", "etc/passwd", "etc/hosts")]
    lines += [f"mount -t tmpfs tmpfs {place}" for place in ("/var/tmp", "/mnt", "/run")]
    for index, path in enumerate(hidden, start=1):
        place = shlex.quote(str(path))
        lines += [f"mkdir -p {place}", f"mount --move {aside}/{index} {place}"]
    lines += [f"umount -l {aside}/0", f"rmdir {aside}/* {aside}", "mkdir -p /run/sshd"]
    return "\n".join(lines)


def _passwd() -> str:
    """The machine's users, the first of whom lives in the host's own home and speaks bash."""
    others = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    return "\n".join([f"root:x:0:0:root:{HOME}:/bin/bash", *others]) + "\n"

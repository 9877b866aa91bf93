"""The shipped cluster/config.yaml on hosts of this machine: a desk that the user sits at, a head, one worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosts import HOME, ROOT, Host, Network

SHIPPED = ROOT / "cluster" / "config.yaml"
KEY = HOME / ".ssh" / "id_ed25519"
VENV = "mtlsearch/venv"
MARK = "# CHANGE"

PIP = """[install]
no-index = true
no-build-isolation = false
"""
"""There is no internet: what the machine has is what pip finds. (pip reads `false` here as `--no-build-isolation`.)"""

_BASHRC = """export RAY_OVERRIDE_RESOURCES='{"CPU": 1}'  # two CPUs are two hosts
export RAY_worker_niceness=0  # else what runs beside the tests has the CPUs
"""

_RANK = re.compile(r"ray::(Trial\.train|OtherRank\.step)\b")
"""A process's title while it runs this method of an actor; one that waits for its next trial has another."""


def changed(text: str, values: dict[str, str]) -> str:
    """The shipped file with other text on its marked lines, and on no others.

    Args:
        values: what a line begins with → what stands there instead.
    """
    lines = text.splitlines()
    for start, value in values.items():
        (index,) = [number for number, line in enumerate(lines) if line.strip().startswith(start)]
        assert MARK in lines[index], f"not marked with `{MARK}`: {lines[index]}"
        lines[index] = " " * (len(lines[index]) - len(lines[index].lstrip())) + value
    return "\n".join(lines) + "\n"


@dataclass
class Cluster:
    """The hosts, and the config file that the desk's `ray` commands are given."""

    network: Network
    desk: Host
    head: Host
    worker: Host
    config: str

    @classmethod
    def build(cls, network: Network, data: Path, mount: Path) -> Cluster:
        """Hosts on which what the config file asks of a machine is there, and no Ray.

        Args:
            data: a folder that the desk has, and the config file copies to the others.
            mount: a folder that head and worker see, wherever the network is cut.
        """
        desk = network.add("desk", "10.77.0.1", keep=(data,))
        head = network.add("head", "10.77.0.2", keep=(mount,))
        worker = network.add("worker", "10.77.0.3", keep=(mount,))
        (desk.home / ".ssh").mkdir(mode=0o700)
        desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(KEY))
        (desk.home / ".ssh" / "config").write_text(f"Host {head.address}\n  SendEnv WANDB_API_KEY\n")
        for host in (head, worker):
            _equip(host)
            _open(host, desk)
        desk.environment["PATH"] = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        values = {
            "head_ip:": f"head_ip: {head.address}",
            "worker_ips:": f"worker_ips: [{worker.address}]",
            "ssh_user:": "ssh_user: root",
            "ssh_private_key:": f"ssh_private_key: {KEY}",
            "# ~/data:": f"~/data: {data}",
        }
        (desk.home / "config.yaml").write_text(changed(SHIPPED.read_text(), values))
        return cls(network, desk, head, worker, str(HOME / "config.yaml"))

    def ray(self, *arguments: str, timeout: float = 120, check: bool = True, **environment: str) -> str:
        """A `ray` command on the desk, in the repository's folder as the config file asks; what it said."""
        line = ["env", "-C", str(ROOT), "ray", *arguments]
        return self.desk.run(*line, timeout=timeout, check=check, environment=environment).stdout

    def up(self) -> str:
        """`ray up`."""
        return self.ray("up", "--yes", self.config, timeout=300)

    def submit(self, *arguments: str, timeout: float = 300, check: bool = True, **environment: str) -> str:
        """`ray submit` of a mtlsearch command."""
        line = ("submit", self.config, "cluster/submit.py", "--", *arguments)
        return self.ray(*line, timeout=timeout, check=check, **environment)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`ray submit` that runs beside us; it speaks to `submit.log` in the desk's home."""
        line = ["env", "-C", str(ROOT), "ray", "submit", self.config, "cluster/submit.py", "--", *arguments]
        log = self.desk.home / "submit.log"
        log.unlink(missing_ok=True)
        return self.desk.start(*line, output=log)

    def end(self, command: subprocess.Popen[bytes]) -> None:
        """Ends what was started on the desk, with all that it started."""
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()

    def down(self) -> str:
        """`ray down`."""
        return self.ray("down", "--yes", self.config)

    def lose(self, host: Host) -> None:
        """The host loses its power."""
        self.network.end(host)

    def reboot(self, host: Host) -> None:
        """Its power is back, and its SSH server starts; nothing else does."""
        self.network.boot(host)
        _open(host, self.desk)

    def ranks(self) -> set[tuple[str, str]]:
        """Where processes of trials are at work: the host, and the method that it runs."""
        found = set()
        for host in (host for host in self.network.hosts if host is not self.desk):
            titles = [_RANK.match(line) for line in host.processes().values()]
            found |= {(host.name, title[1]) for title in titles if title is not None}
        return found

    def wait_for_cpus(self, count: int, seconds: float = 120) -> None:
        """Until that many CPUs, one a host, have joined."""
        until(lambda: f"/{count}.0 CPU" in self.ray("exec", self.config, "ray status", check=False), seconds)


def until(true: Callable[[], bool], seconds: float) -> None:
    """Asks until it is so.

    Raises:
        AssertionError: it was not within that time.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.5)


def _open(host: Host, desk: Host) -> None:
    """Lets the desk's user in by SSH."""
    host.serve_ssh((desk.home / ".ssh" / "id_ed25519.pub").read_text(), "AcceptEnv WANDB_API_KEY")


def _equip(host: Host) -> None:
    """What pip would fetch is there already: an environment that sees this machine's packages, but not mtlsearch."""
    host.run(sys.executable, "-m", "venv", "--without-pip", VENV)
    site = f"{VENV}/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    (host.home / site / "machine.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in ("ray", "pip"):
        script = Path(sys.prefix, "bin", name).read_text().splitlines()[1:]
        place = host.home / VENV / "bin" / name
        place.write_text("\n".join([f"#!{HOME}/{VENV}/bin/python", *script]) + "\n")
        place.chmod(0o755)
    (host.home / ".config" / "pip").mkdir(parents=True)
    (host.home / ".config" / "pip" / "pip.conf").write_text(PIP)
    (host.home / ".bashrc").write_text(_BASHRC)

"""The shipped cluster/config.yaml on hosts of this machine: a desk that the user sits at, a head, one worker."""

from __future__ import annotations

import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from hosts import HOME, ROOT, Host, Network

SHIPPED = ROOT / "cluster" / "config.yaml"
KEY = HOME / ".ssh" / "id_ed25519"
VENV = "mtlsearch/venv"

PIP = """[install]
no-index = true
no-build-isolation = false
"""
"""There is no internet: what the machine has is what pip finds. (pip reads `false` here as `--no-build-isolation`.)"""


def changed(text: str, values: dict[str, str]) -> str:
    """The shipped file with other values on its marked lines, and on no others.

    Args:
        values: by what a line begins with, what stands after that.
    """
    lines = text.splitlines()
    for start, value in values.items():
        (index,) = [number for number, line in enumerate(lines) if line.strip().startswith(start)]
        assert lines[index].endswith(("# CHANGE", ")")) or "# CHANGE" in lines[index], lines[index]
        indent = re.match(r"\s*", lines[index])
        assert indent is not None
        lines[index] = f"{indent[0]}{start}{value}"
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
    def build(cls, network: Network, data: Path | None = None) -> Cluster:
        """Hosts on which what the config file asks of a machine is there, and no Ray."""
        keep = () if data is None else (data,)
        desk, head, worker = (
            network.add(name, f"10.77.0.{number}", keep=keep)
            for number, name in enumerate(("desk", "head", "worker"), start=1)
        )
        (desk.home / ".ssh").mkdir(mode=0o700)
        desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(KEY))
        (desk.home / ".ssh" / "config").write_text(f"Host {head.address}\n  SendEnv WANDB_API_KEY\n")
        public = (desk.home / ".ssh" / "id_ed25519.pub").read_text()
        for host in (head, worker):
            _equip(host)
            host.serve_ssh(public, "AcceptEnv WANDB_API_KEY")
        desk.environment["PATH"] = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        values = {
            "head_ip:": f" {head.address}",
            "worker_ips:": f" [{worker.address}]",
            "ssh_user:": " root",
            "ssh_private_key:": f" {KEY}",
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

    def down(self) -> str:
        """`ray down`."""
        return self.ray("down", "--yes", self.config)


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
    (host.home / ".bashrc").write_text("""export RAY_OVERRIDE_RESOURCES='{"CPU": 1}'\n""")  # two CPUs are two hosts

"""The cluster files that cannot be run here are at least well-formed, by the judgement of those who read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHED = ("config", "aws", "gcp")
KUBERAY_CRD = "KUBERAY_RAYJOB_CRD"
"""The variable that names KubeRay's own definition, ray.io_rayjobs.yaml, to check against that too."""


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return document


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_up_takes_the_file(name: str) -> None:
    ray = find_spec("ray")
    assert ray is not None
    assert ray.origin is not None
    schema = json.loads(Path(ray.origin).with_name("autoscaler").joinpath("ray-schema.json").read_text())
    jsonschema.validate(read(f"{name}.yaml"), schema)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_what_is_not_run_shares_its_commands_with_what_is(name: str) -> None:
    run, other = read("config.yaml"), read(f"{name}.yaml")
    assert other["setup_commands"][1:] == run["setup_commands"][1:]
    assert other["file_mounts"] == run["file_mounts"]
    ours, theirs = run["worker_start_ray_commands"][2].split("; "), other["worker_start_ray_commands"][2].split("; ")
    assert set(theirs) <= set(ours)
    assert "spot" in json.dumps(other["available_node_types"]["worker"]).lower()
    assert other["worker_start_ray_commands"][-1].split(" < ")[0].endswith(f"cluster/spot_notice.py {name}")


@pytest.mark.parametrize("name", LAUNCHED)
def test_it_is_shut_to_strangers(name: str) -> None:
    config = read(f"{name}.yaml")
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    starts = [each for each in config["head_start_ray_commands"] if "ray start" in each]
    assert all("--dashboard-host=127.0.0.1" in each and "--node-ip-address=" in each for each in starts)
    assert "0.0.0.0" not in json.dumps(config)


@pytest.mark.parametrize("name", [*(f"{name}.yaml" for name in LAUNCHED), "kuberay.yaml", "slurm.sbatch"])
def test_each_says_whether_it_was_run_and_what_is_to_be_changed(name: str) -> None:
    text = (CLUSTER / name).read_text()
    assert "# CHANGE" in text
    assert ("# Run for real" in text) == (name == "config.yaml")
    assert ("# Validated, not run" in text) == (name != "config.yaml")


def test_kubernetes_takes_the_job() -> None:
    schema = json.loads(Path(__file__).with_name("rayjob.schema.json").read_text())
    jsonschema.validate(read("kuberay.yaml"), schema)


@pytest.mark.skipif(KUBERAY_CRD not in os.environ, reason=f"{KUBERAY_CRD} names no file")
def test_kuberay_takes_the_job() -> None:
    definition = yaml.safe_load(Path(os.environ[KUBERAY_CRD]).read_text())
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(read("kuberay.yaml"), schema)


def _closed(schema: Any) -> Any:
    """As Kubernetes prunes: what is not named is not allowed. Its integers-or-strings have no one type."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def test_bash_reads_the_slurm_script() -> None:
    subprocess.run(["bash", "-n", CLUSTER / "slurm.sbatch"], check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_slurm_script_is_sound() -> None:
    done = subprocess.run(["shellcheck", CLUSTER / "slurm.sbatch"], capture_output=True, text=True, check=False)
    assert done.stdout == ""

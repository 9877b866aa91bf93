"""cluster/submit.py: any command, on the cluster, with its exit code and the place of its results."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "cluster" / "submit.py"


@pytest.fixture(scope="module")
def submit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("submit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("given", "on_the_cluster"),
    [
        (["run", "a.yaml"], True),
        (["--", "run", "a.yaml", "--trials", "3"], True),
        (["resume", "experiments/a"], True),
        (["run", "a.yaml", "--address=10.0.0.1:6379"], False),
        (["run", "a.yaml", "--dry-run"], False),
        (["leaderboard", "experiments/a"], False),
    ],
)
def test_what_trains_is_told_of_the_cluster(submit: ModuleType, given: list[str], on_the_cluster: bool) -> None:
    program, *words = submit.command(given)
    assert Path(program).name == "mtlsearch"
    assert words == [*(word for word in given if word != "--"), *(["--address", "auto"] if on_the_cluster else [])]


def test_no_command_is_told() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no command" in done.stderr


def test_the_exit_code_is_the_commands(tmp_path: Path) -> None:
    line = [sys.executable, SCRIPT, "run", "nothing.yaml"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nothing.yaml" in done.stderr


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """A Python with a mtlsearch beside it that makes its results and waits for Ctrl-C."""
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "mtlsearch").write_text(
        f"#!{sys.executable}\nimport pathlib, sys, time\n"
        "out = pathlib.Path('experiments/a')\nout.mkdir(parents=True)\n(out / 'plan.json').touch()\n"
        "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    (tmp_path / "mtlsearch").chmod(0o755)
    return tmp_path


def test_sigterm_ends_the_search_in_good_order_and_says_where_its_results_are(patient: Path) -> None:
    with subprocess.Popen(
        ["bash", "-c", f"{patient}/python {SCRIPT} run a.yaml & echo $!; wait $!"],  # in the background, as Slurm's
        cwd=patient,
        stdout=subprocess.PIPE,
        text=True,
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        end = time.monotonic() + 30
        while not (patient / "experiments" / "a" / "plan.json").exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.2)
        os.kill(pid, signal.SIGTERM)
        said, _ = shell.communicate(timeout=30)
    assert shell.returncode == 130
    assert f"results on {os.uname().nodename}: {patient}/experiments/a" in said

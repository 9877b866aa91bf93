"""README says what is so: its tree is the disk's, its commands are the program's, its numbers are the results'."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from mtlsearch.cli import app
from mtlsearch.space import read_experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TREE = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
SPACE = re.search(r"## A space file\n\n```yaml\n(.*?)```", README, re.DOTALL)


def readme_writer() -> ModuleType:
    """benchmarks/readme.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("benchmark_readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tree_is_what_is_on_disk() -> None:
    assert TREE is not None
    said = {line.split()[0].rstrip("/") for line in TREE[1].splitlines() if line.startswith("  ") and line.strip()}
    there = {path.name for path in (ROOT / "mtlsearch").iterdir() if not path.name.startswith(("_", "py.typed"))}
    assert said | {"view.py"} == there  # view.py is named beside cli.py
    folders = {line.split("/")[0] for line in TREE[1].splitlines() if line and not line.startswith(" ")}
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_every_command_is_named() -> None:
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(names) > 4
    assert all(f"`mtlsearch {name}" in README for name in names)


def test_the_space_file_is_one(tmp_path: Path) -> None:
    assert SPACE is not None
    path = tmp_path / "space.yaml"
    path.write_text(SPACE[1])
    experiment = read_experiment(path)
    assert {"model.mmoeex.alpha", "balancing.maml_mtl.inner_lr", "optimizer.lr"} <= set(experiment.space.dimensions)


def test_the_numbers_are_the_results() -> None:
    assert readme_writer().updated(README) == README


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()

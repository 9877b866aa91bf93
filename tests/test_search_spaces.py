"""Every file in search_spaces/ is a valid space file that says how it is run."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from mtlsearch.orchestrate.plan import make_plan
from mtlsearch.space import json_schema, read_experiment

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))


def test_the_files_that_the_documentation_names_are_there():
    assert {path.stem for path in FILES} >= {"quickstart", "census"}


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_space_file(path):
    experiment = read_experiment(path)
    assert experiment.name == path.stem
    assert len(make_plan(experiment).first(5)) == 5
    jsonschema.validate(yaml.safe_load(path.read_text()), json_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_first_line_is_the_command_that_runs_it(path):
    first, second, *_ = path.read_text().splitlines()
    assert first.startswith(f"# mtlsearch run search_spaces/{path.name}")
    assert second == "#"

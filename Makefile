# Two commands on a fresh machine: `make run` (installs, runs the quick start), `make test` (installs, runs the tests).
PYTHON ?= python3
BIN := .venv/bin
# torch comes first and by its exact version: where a plain build (no CUDA) is offered, that is the one it gets.
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: install run test test-fast lint clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench]'
	touch $@

run: install
	$(BIN)/mtlsearch run search_spaces/quickstart.yaml

test: install lint
	$(BIN)/python -m pytest

test-fast: install
	$(BIN)/python -m pytest -m 'not slow and not ray'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Two commands on a fresh machine: `make run` (installs, runs the quick start), `make test` (installs, runs the tests).
PYTHON ?= python3
BIN := .venv/bin
# torch comes first and by its exact version: where a plain build (no CUDA) is offered, that is the one it gets.
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: install run test test-fast test-chaos test-cluster lint clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,cluster,torchjd,postgresql,wandb]'
	touch $@

run: install
	$(BIN)/mtlsearch run search_spaces/quickstart.yaml

# Three processes, which wait now and then. Beside them the tests that start a Ray cluster, of which there is one a session:
# these take the longest and wait the most, and Ray is nice itself, so the others are no less.
test: install lint
	@$(BIN)/python -m pytest -m ray > .pytest-ray.log 2>&1 & ray=$$!; trap "kill $$ray" INT TERM; \
	nice -n 15 $(BIN)/python -m pytest -n 3 -m 'not ray'; plain=$$?; \
	wait $$ray; ray=$$?; cat .pytest-ray.log; exit $$((plain | ray))

test-fast: install
	$(BIN)/python -m pytest -n 2 -m 'not slow and not ray'

# Of the ten seeds by which a search is broken, `make test` has one; this has the others.
test-chaos: install
	$(BIN)/python -m pytest -m chaos tests/chaos

# cluster/config.yaml for real, on hosts made of namespaces; skipped, and said why, where they cannot be made.
test-cluster: install
	$(BIN)/python -m pytest -m cluster tests/cluster

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv .pytest-ray.log .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# `make demo` and `make test` are the two commands of the README; both begin with `make setup`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Tests at a time, a module's by one process.
TESTS_AT_ONCE ?= 2
PYTEST := $(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadscope
# By uv, or by pip where uv cannot; either finds what pip has been told to.
INSTALL := $(BIN)/python deploy/install.py
# Where Python keeps no bytecode, each process compiles torch anew, for three seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-dev bench-peers demo test test-faults test-fast check format clean

setup: $(VENV)/.setup

$(VENV)/.setup: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[int8]"
	@touch $@

setup-dev: $(VENV)/.setup-dev

$(VENV)/.setup-dev: $(VENV)/.setup
	$(INSTALL) ".[int8,dev]"
	@touch $@

demo: setup  ## label examples/sentences.csv on the embedded default and show some of it
	env -u MTL_REDIS_URL $(BIN)/mtl label examples/sentences.csv -o demo-out
	@$(BIN)/python examples/show.py demo-out

test: setup-dev check  ## lint, types, all tests but the long faults
	$(PYTEST) -m "not faults" --durations 25

test-faults: setup-dev  ## every fault on real processes, some twelve minutes
	$(BIN)/python -m pytest -m faults

test-fast: setup-dev  ## the tests that start no worker process
	$(PYTEST) -m "not slow"

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

bench-peers:  ## an environment with the other ways of benchmarks/label.py (--peers .venv-peers/bin/python)
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@# Not needed, and where one comes along built for another torch, transformers does not import.
	.venv-peers/bin/python -m pip uninstall --quiet --yes torchvision

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-out build dist *.egg-info .mypy_cache .ruff_cache

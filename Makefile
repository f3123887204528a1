# `make help` lists what there is. Everything below sets up its own environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all test-gpu lint benchmark lock clean

help:  ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(READY): pyproject.toml constraints.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.lock -e ".[dev]"
	@touch $@

env: $(READY)  ## the environment: a virtual environment in .venv with the locked versions

demo: $(READY)  ## train a CNN on the embedded digits (some seconds)
	$(BIN)/cnnlab train

test: $(READY)  ## every test but the slow ones (minutes)
	$(BIN)/python -m pytest -n 2

test-all: $(READY)  ## every test, the slow ones too
	$(BIN)/python -m pytest -m "not gpu"

test-gpu: $(READY)  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(READY)  ## the speed figures of the README, as ratios measured in one run
	$(BIN)/python -m tests.benchmarks.startup
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.training
	$(BIN)/python -m tests.benchmarks.photographs
	$(BIN)/python -m tests.benchmarks.features
	$(BIN)/python -m tests.benchmarks.prediction
	$(BIN)/python -m tests.benchmarks.epochs
	$(BIN)/python -m tests.benchmarks.beside

lock: $(READY)  ## write constraints.lock from what is installed
	$(BIN)/python -m pip freeze --exclude-editable \
	  | grep -vE '^(nvidia-|cuda-|triton|cnnlab)' \
	  | sed 's/$$/ ; python_version >= "3.11"/' > constraints.lock

clean:  ## remove the environment and caches; runs in outputs/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The developers' menu. `make demo` and `make test` need nothing prepared; every target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
RECIPE := pyproject.toml constraints.txt scripts/setup.sh
ROOMS := agent engines calibration build training

.PHONY: help demo setup test test-all test-long check lint format types imports bench bench-build bench-calibration profile clean

help: ## show this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Two levels in one folder: what the agent needs (no torch), and everything.
$(VENV)/.agent: $(RECIPE)
	@PYTHON=$(PYTHON) scripts/setup.sh $(VENV) agent
$(VENV)/.everything: $(RECIPE)
	@PYTHON=$(PYTHON) scripts/setup.sh $(VENV) everything

demo: $(VENV)/.agent ## the main job, live: simulated captures in, explained answers out (ONCE=1 ends by itself)
	@$(VENV)/bin/dermascan demo $(if $(filter-out 0,$(ONCE)),--once)

setup: $(VENV)/.everything ## build .venv with everything the other targets need

test: setup ## every test (the short form of the long ones)
	@$(PY) -m pytest

test-all: setup ## the agent's suite on each Python of 3.10 to 3.13 that is here
	@scripts/test-all.sh

test-long: setup ## the full-length forms: fuzz, crash, soak
	@$(PY) -m pytest -m long --timeout 3600

check: setup lint types imports test ## what CI runs: lint, format, strict types, import rules, tests

lint: setup
	@echo "lint: ruff check, ruff format --check"
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

types: setup
	@echo "types: mypy --strict"
	@$(VENV)/bin/mypy

imports: setup
	@echo "imports: the arrows between the rooms"
	@$(VENV)/bin/lint-imports

format: setup ## rewrite the code as ruff formats it
	@$(VENV)/bin/ruff check --fix . ; $(VENV)/bin/ruff format .

bench: setup ## one table, measured side by side in one run (benchmarks/pipeline.md says how to read it)
	@$(PY) -m benchmarks.pipeline

bench-build: setup ## one network optimised in every way: eager, compiled, traced, FP16, ONNX Runtime, TensorRT
	@$(PY) -m benchmarks.build

bench-calibration: setup ## how true and how fast the colour correction is
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.calibration

profile: setup ## a pyinstrument report of the pipeline: profile.html
	@$(PY) -m benchmarks.profile_pipeline --out profile.html

clean: ## remove what the targets made
	@rm -rf $(VENV) .venv-* dist demo-state profile.html .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The developers' menu. `make demo` and `make test` need nothing prepared; every target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
RECIPE := pyproject.toml constraints.txt scripts/setup.sh
# Most of the tests' time is waiting, for brokers, deaths and time-outs: several processes share them, file by file.
JOBS ?= 3
SHARED := -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo setup test-tools test test-all test-long check lint format types imports bench bench-build bench-calibration bench-sync bench-api bench-page profile soak trace package install clean

help: ## show this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

# Two levels in one folder: what the agent needs (no torch), and everything.
$(VENV)/.agent: $(RECIPE)
	@PYTHON=$(PYTHON) scripts/setup.sh $(VENV) agent
$(VENV)/.everything: $(RECIPE)
	@PYTHON=$(PYTHON) scripts/setup.sh $(VENV) everything

demo: $(VENV)/.agent ## the main job, live: simulated captures in, explained answers out (ONCE=1 ends by itself)
	@$(VENV)/bin/dermascan demo $(if $(filter-out 0,$(ONCE)),--once)

setup: $(VENV)/.everything ## build .venv with everything the other targets need

test-tools: # brokers and the like, where they may be installed
	@scripts/test-tools.sh

test: setup test-tools ## every test (the short form of the long ones), in JOBS=3 processes
	@$(PY) -m pytest $(SHARED)

test-all: setup test-tools ## the agent's suite on each Python of 3.10 to 3.13 that is here (PYTHONS="3.10 3.13": only those)
	@SHARED="$(SHARED)" scripts/test-all.sh $(PYTHONS)

test-long: setup test-tools ## the full-length forms: fuzz, crash, soak
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

bench-sync: setup test-tools ## the sync and the fallback at full length, about an hour (PART=drain: one part of it)
	@$(PY) -m benchmarks.sync $(or $(PART),all)

bench-page: setup test-tools ## how soon the page shows an answer, and what open pages cost
	@$(PY) -m benchmarks.page

bench-api: setup ## what a request to the local API costs, beside LitServe and TorchServe
	@[ -e .venv-peers/.ready ] || benchmarks/peers/setup.sh .venv-peers
	@$(PY) -m benchmarks.api
	@$(PY) -m benchmarks.flood

soak: setup test-tools ## the whole agent under random faults for MINUTES=10, then reconciled
	@$(PY) -m benchmarks.soak --minutes $(or $(MINUTES),10)

trace: setup ## which tests prove which requirement: docs/trace.md
	@$(PY) -m tests.requirements

package: setup ## a release that installs without a network: dist/*.tar.gz and its SBOM
	@PYTHON=$(PY) PYTHONS="$(or $(PYTHONS),$(PYTHON))" scripts/package.sh dist

install: package ## install on this machine (root)
	@t=$$(mktemp -d) && tar -xzf dist/dermascan-edge-*-$$(uname -m).tar.gz -C $$t && $$t/*/install.sh $(ARGS); r=$$?; rm -rf $$t; exit $$r

profile: setup ## a pyinstrument report of the pipeline: profile.html
	@$(PY) -m benchmarks.profile_pipeline --out profile.html

clean: ## remove what the targets made
	@rm -rf $(VENV) .venv-* dist demo-state profile.html .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv first; a second run starts at once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPREAD := --numprocesses auto --maxprocesses 4 --dist loadfile  # a file's tests share what they built

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast crash check format nano datasets bench bench-train bench-export bench-kinds bench-agent clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	@echo "==> making $(VENV) (llama-cpp-python compiles once, up to ten minutes on two cores)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## the main job, from a dropped file to a served version, in a throw-away home
	@echo "==> THAU's main job on the embedded runtime: no Ollama, no network"
	$(BIN)/python -m thaud.demo

test: $(STAMP) ## the whole test suite
	@echo "==> the whole test suite"
	$(BIN)/python -m pytest $(SPREAD)

test-fast: $(STAMP) ## the tests that train no model
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

crash: $(STAMP) ## kill real daemons at every fail-point and at random, for about half an hour
	$(BIN)/python -m tests.crash --machine

check: $(STAMP) ## the static part: format, lint, types, imports, datasets
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m thaud.nano.datasets --check

format: $(STAMP) ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

nano: $(STAMP) ## build the nano base model again from its corpus
	$(BIN)/python -m thaud.nano.pretrain --out thaud/nano/base

datasets: $(STAMP) ## write data/datasets again from the facts
	$(BIN)/python -m thaud.nano.datasets --out data/datasets

bench: $(STAMP) ## beside a peer each: the idle daemon, the intake
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m tests.bench.bench_idle
	$(BIN)/python -m tests.bench.bench_intake

bench-train: $(STAMP) ## training beside TRL: speed, memory, held-out loss, growth, start-up (for about an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m tests.bench.bench_train

bench-export: $(STAMP) ## export beside PEFT's merge and llama.cpp's converter: speed, memory, bytes written (for about half an hour)
	$(BIN)/python -m tests.bench.bench_export

bench-kinds: $(STAMP) ## what rounding costs: one trained adapter as every kind of file, accuracy and certificate (for some minutes)
	$(BIN)/python -m tests.bench.bench_kinds

bench-agent: $(STAMP) ## the agent apart from its model: valid calls, their price, the first token (for about ten minutes)
	$(BIN)/python -m tests.bench.bench_agent

clean: ## remove what was made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Everything a newcomer needs: `make serve` and `make test`. Only Python 3.11 and make must be there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MODEL ?= predictor/demo_model

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve test lint format release evaluate rollback mlflow compile eval-demo parity \
	bench bench-quick bench-gpu clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(VENV)/.predictor ## virtual environment with what serving needs

install-dev: $(VENV)/.dev ## the same, with the tests' and pipelines' tools

serve: $(VENV)/.predictor ## start the predictor on port 8080 (gRPC 8081); MODEL=DIR for another model
	$(BIN)/python -m predictor serve --model_dir=$(MODEL)

test: $(VENV)/.dev ## run all tests
	$(BIN)/python -m pytest

lint: $(VENV)/.dev ## style, types and the arrows between packages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

release: $(VENV)/.dev ## measure, register and roll out a model on this machine; MODEL=DIR for another
	$(BIN)/python -m pipelines.local release --set=source=$(MODEL)

evaluate: $(VENV)/.dev ## measure a model on this machine, beside the champion; MODEL=DIR for another
	$(BIN)/python -m pipelines.local evaluate --set=model=$(MODEL)

rollback: $(VENV)/.dev ## all users of this machine's service back to the version before
	$(BIN)/python -m pipelines.local rollback

mlflow: $(VENV)/.dev ## look at what was registered on this machine, on port 5000
	$(BIN)/python -m pipelines.local.mlflow_server

compile: $(VENV)/.dev ## write the pipelines as YAML for Kubeflow again
	$(BIN)/python -m pipelines.compile

eval-demo: $(VENV)/.dev ## score the embedded model on its evaluation set
	$(BIN)/python -m pipelines.demo_model evaluate

parity: $(VENV)/.dev ## compare the engine with FunASR, number by number
	$(BIN)/python -m pipelines.steps.parity

bench: $(VENV)/.dev build/bench/env/.done ## measure speed, memory, cold start and accuracy beside every rival
	$(BIN)/python -m tests.benchmarks

bench-quick: $(VENV)/.dev build/bench/env/.done ## the same in a few minutes, with fewer shapes and rounds
	$(BIN)/python -m tests.benchmarks --quick

bench-gpu: $(VENV)/.dev build/bench/env/.done ## the GPU's part, in ten minutes on a machine with one
	$(BIN)/python -m tests.benchmarks.gpu

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.predictor: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what serving needs into $(VENV): some minutes, the first time"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the tests' and pipelines' tools into $(VENV): some minutes, the first time"
	@$(PIP) --editable '.[pipelines,recipe,reference,dev]'
	@touch $@ $(VENV)/.predictor

build/bench/env/.done: tests/benchmarks/requirements.txt | $(BIN)/python
	@echo "installing the rivals into build/bench/env: some minutes, the first time"
	@rm -rf build/bench/env
	@$(BIN)/python -m venv build/bench/env
	@build/bench/env/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

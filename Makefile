# Everything a newcomer needs: `make serve` and `make test`. Only Python 3.11 and make must be there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A lock is complete: what it does not hold, with the hashes of its files, is not installed.
LOCKED := $(PIP) --no-deps --require-hashes --requirement
# torch's wheel for CPUs where an index offers it, else the ordinary one: on Linux CUDA's libraries come with it.
TORCH := $(LOCKED) predictor/torch-cpu.lock 2>/dev/null || $(LOCKED) predictor/torch.lock
PROJECT := $(PIP) --no-deps --no-build-isolation --editable .
MODEL ?= predictor/demo_model
SERVICE ?= http://localhost:8080
TOOLS := build/tools
SBOM := build/sbom
LOCK := build/lock
COMPILE := $(LOCK)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock'
# Extensions of torch could be built with setuptools; the engine never lets openvino-telemetry in.
PINNED := --constraint constraints.txt --no-emit-package setuptools --no-emit-package openvino-telemetry
NO_TORCH = $$(sed -nE 's/^(torch|triton|cuda-[a-z]*|nvidia-[a-z0-9-]*)==.*/--no-emit-package \1/p' predictor/torch.lock)
TORCH_WHEELS ?= --default-index https://download.pytorch.org/whl/cpu
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse HEAD)
BUILDER ?= $(firstword $(foreach tool,docker podman buildah,$(if $(shell command -v $(tool)),$(tool))))
IMAGE = $(or $(BUILDER),$(error docker, podman or buildah is needed)) build --build-arg VERSION=$(VERSION) \
	--build-arg REVISION=$(REVISION) $(BUILD_FLAGS)

.DEFAULT_GOAL := help
.PHONY: help install install-dev serve ui test stress lint format release evaluate rollback mlflow compile notebooks manifests tools \
	image image-cuda lint-images lock audit sbom eval-demo parity bench bench-quick bench-gpu clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

install: $(VENV)/.predictor ## virtual environment with what serving needs

install-dev: $(VENV)/.dev ## the same, with the tests' and pipelines' tools

serve: $(VENV)/.predictor ## start the predictor on port 8080 (gRPC 8081); MODEL=DIR for another model
	$(BIN)/python -m predictor serve --model_dir=$(MODEL)

ui: $(VENV)/.ui ## the page on port 6006, for the predictor of `make serve`; SERVICE=URL for another
	SENSEVOICE_UI_SERVICE_URL=$(SERVICE) $(BIN)/python -m predictor.ui

test: $(VENV)/.dev $(TOOLS)/.done ## run all tests
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0

stress: $(VENV)/.dev ## try hard to break every promise of docs/reliability.md, and print what held
	STRESS=1 $(BIN)/python -m pytest tests/reliability

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

manifests: $(VENV)/.dev $(TOOLS)/.done ## render and check the manifests
	$(BIN)/python -m manifests.build_dashboard
	$(BIN)/python -m manifests.render
	$(BIN)/python -m manifests.build_chart
	$(BIN)/python -m manifests.validate

tools: $(TOOLS)/.done ## kubectl, helm and checkers for manifests and images

image: ## build the images with docker, podman or buildah: predictor for CPUs, pipelines, page
	$(IMAGE) --file predictor/Dockerfile --target cpu --tag sensevoice-predictor:$(VERSION) .
	$(IMAGE) --file pipelines/Dockerfile --tag sensevoice-pipelines:$(VERSION) .
	$(IMAGE) --file predictor/ui/Dockerfile --tag sensevoice-ui:$(VERSION) .

image-cuda: ## build the image of the predictor for NVIDIA GPUs
	$(IMAGE) --file predictor/Dockerfile --target cuda --tag sensevoice-predictor:$(VERSION)-cuda .

lint-images: $(TOOLS)/.done ## check the images' recipes with hadolint
	$(TOOLS)/env/bin/hadolint predictor/Dockerfile pipelines/Dockerfile predictor/ui/Dockerfile

lock: $(LOCK)/.done ## write the locks again: what constraints.txt pins, with the hashes of all its files
	sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(COMPILE) - --output-file build.lock
	grep '^torch==' constraints.txt | $(COMPILE) $(PINNED) - --output-file predictor/torch.lock
	$(COMPILE) $(PINNED) $(NO_TORCH) pyproject.toml --output-file predictor/requirements.lock
	$(COMPILE) $(PINNED) $(NO_TORCH) pyproject.toml --extra pipelines --extra reference --extra mlflow-server \
		--output-file pipelines/requirements.lock
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["ui"], sep="\n")' \
		| $(COMPILE) $(PINNED) - --output-file predictor/ui/requirements.lock
	$(COMPILE) $(PINNED) $(NO_TORCH) pyproject.toml --all-extras --output-file tests/requirements.lock
	sed -n 's/^torch==.*/&+cpu/p' constraints.txt | $(COMPILE) --no-deps $(TORCH_WHEELS) - --output-file predictor/torch-cpu.lock

audit: $(VENV)/.dev ## ask a database of vulnerabilities about the locks; needs a network
	@$(BIN)/python -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	for lock in $(shell git ls-files '*.lock'); do \
		build/audit/bin/pip-audit --disable-pip --require-hashes --requirement $$lock || exit 1; done

sbom: $(SBOM)/predictor.cdx.json $(SBOM)/pipelines.cdx.json $(SBOM)/predictor/ui.cdx.json ## list each image's packages (CycloneDX)

notebooks: $(VENV)/.dev ## bring each notebook and its script to what was edited last, without outputs
	$(BIN)/jupytext --quiet --sync notebooks/*.py
	grep -l '"output_type"' notebooks/*.ipynb | sed 's/ipynb$$/py/' | xargs -r $(BIN)/jupytext --quiet --to ipynb

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

$(VENV)/.predictor: pyproject.toml build.lock predictor/requirements.lock predictor/torch.lock | $(BIN)/python
	@echo "installing what serving needs into $(VENV): some minutes, the first time"
	@$(LOCKED) build.lock --requirement predictor/requirements.lock
	@$(TORCH)
	@$(PROJECT)
	@touch $@

$(VENV)/.ui: pyproject.toml build.lock predictor/ui/requirements.lock | $(BIN)/python
	@echo "installing what the page needs into $(VENV): some minutes, the first time"
	@$(LOCKED) build.lock --requirement predictor/ui/requirements.lock
	@$(PROJECT)
	@touch $@

$(VENV)/.dev: pyproject.toml build.lock tests/requirements.lock predictor/torch.lock | $(BIN)/python
	@echo "installing the tests' and pipelines' tools into $(VENV): some minutes, the first time"
	@$(LOCKED) build.lock --requirement tests/requirements.lock
	@$(TORCH)
	@$(PROJECT)
	@touch $@ $(VENV)/.predictor $(VENV)/.ui

build/bench/env/.done: tests/benchmarks/requirements.txt | $(BIN)/python
	@echo "installing the rivals into build/bench/env: some minutes, the first time"
	@rm -rf build/bench/env
	@$(BIN)/python -m venv build/bench/env
	@build/bench/env/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

$(TOOLS)/.done: manifests/requirements.txt manifests/tools.py | $(BIN)/python
	@echo "installing the tools for manifests into $(TOOLS): some minutes, the first time"
	@rm -rf $(TOOLS)
	@$(BIN)/python -m venv $(TOOLS)/env
	@$(TOOLS)/env/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@$(TOOLS)/env/bin/python manifests/tools.py
	@touch $@

# What the image's recipe installs. One after the other: they share an environment.
.NOTPARALLEL: sbom
INTO_SBOM = $(subst -m pip,-m pip --python $(SBOM)/env,$(1))
$(SBOM)/%.cdx.json: %/requirements.lock predictor/torch.lock $(TOOLS)/.done | $(BIN)/python
	@rm -rf $(SBOM)/env && mkdir -p $(@D) && $(BIN)/python -m venv --without-pip $(SBOM)/env
	@$(call INTO_SBOM,$(LOCKED)) $<
	@if grep -q torch-cpu.lock $*/Dockerfile; then $(call INTO_SBOM,$(TORCH)); fi
	$(TOOLS)/env/bin/cyclonedx-py environment --output-reproducible --of JSON -o $@ $(SBOM)/env
	@rm -rf $(SBOM)/env

$(LOCK)/.done: Makefile | $(BIN)/python
	@rm -rf $(LOCK) && $(BIN)/python -m venv $(LOCK)
	@$(LOCK)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@touch $@

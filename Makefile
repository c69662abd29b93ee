# Set-up happens by itself: every target makes the environment if it is missing, once.
# Without a GPU, TORCH_BACKEND=cpu installs the much smaller CPU build of torch.

PYTHON ?= python3
TORCH_BACKEND ?=
VENV := .venv
WORKFLOW := .venv-workflow
RUN := $(VENV)/bin/python
UV_VERSION := 0.13.9
# The lock as it is, or without the packages that only a GPU needs.
LOCK := $(if $(filter cpu,$(TORCH_BACKEND)),grep -vE '^(nvidia-|cuda-|triton)' requirements.lock,cat requirements.lock)

DEMO := $(or $(FAP_HOME),.)/runs/demo/report.html

PROFILE ?= mini
DATA ?=
TRAIN ?=
TEST ?=
SETTINGS ?=
GRID ?=
CORES ?=
SNAKEMAKE ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test lint notebooks figures reproduce paper workflow parity docs bench lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make the environment in .venv (other targets do it when needed)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13))' || { \
	  echo "The kit needs Python 3.11, 3.12 or 3.13; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV) || { \
	  echo "Python cannot make environments; on Debian or Ubuntu install python3-venv." >&2; exit 1; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(LOCK) | $(RUN) -m uv pip install --python $(RUN) $(addprefix --torch-backend=,$(TORCH_BACKEND)) --compile-bytecode --requirements -
	@$(RUN) -m uv pip install --quiet --python $(RUN) --no-deps --editable .
	@touch $@

demo: $(VENV)/.ready ## the main job on generated images: prepare, train, evaluate, report
	$(RUN) -m fap_lib.cli demo

lab: $(VENV)/.ready ## JupyterLab, on copies of the notebooks that are yours to edit
	$(RUN) -m fap_lib.cli lab

test: $(VENV)/.ready $(WORKFLOW)/.ready lint $(DEMO) ## lint, type-check, run all tests and all notebooks
	OMP_NUM_THREADS=1 FAP_PROGRESS=0 $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval.cfg tests notebooks

notebooks: $(DEMO) ## run all notebooks on the mini profile and store their outputs
	$(RUN) -m fap_lib.cli notebooks

figures: $(DEMO) ## draw all figures as PDF and PNG into build/figures
	$(RUN) -m figures

# Some notebooks and figures look at what the demo left.
$(DEMO): | $(VENV)/.ready
	$(RUN) -m fap_lib.cli demo

lint: $(VENV)/.ready ## ruff (lint and format), mypy, rooms, dependencies
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/deptry .

reproduce: $(VENV)/.ready ## train on one dataset, test on others: DATA=folder TRAIN=name TEST=name,name [PROFILE=paper SETTINGS=file]
	$(RUN) -m fap_lib.cli reproduce --data "$(DATA)" --train "$(TRAIN)" --test "$(TEST)" --profile "$(PROFILE)" \
	  $(if $(SETTINGS),--settings "$(SETTINGS)")

paper: PROFILE = paper
paper: $(VENV)/.ready $(WORKFLOW)/.ready ## the paper's tables: [PROFILE=mini] [GRID=file] [CORES=2] [SNAKEMAKE="-n"]
	$(RUN) -m fap_lib.cli paper $(or $(GRID),workflow/grids/$(PROFILE).yaml) $(addprefix --cores ,$(CORES)) --snakemake="$(SNAKEMAKE)"

workflow: $(WORKFLOW)/.ready ## install Snakemake and its SLURM plugin, in an environment of their own

$(WORKFLOW)/.ready: workflow/requirements.lock | $(VENV)/.ready
	@test -x $(WORKFLOW)/bin/python || $(RUN) -m venv $(WORKFLOW)
	@$(RUN) -m uv pip install --quiet --python $(WORKFLOW)/bin/python --compile-bytecode --requirements workflow/requirements.lock
	@touch $@

parity: $(VENV)/.ready ## compare the kit with the official code's outputs: FILE=outputs.npz
	$(RUN) -m fap_lib.official.parity $(or $(FILE),tests/golden/tiny.npz)

docs: $(VENV)/.ready ## build the site into build/site (offline, from the notebooks as stored)
	$(VENV)/bin/sphinx-build -q -W --keep-going -c docs . build/site

bench: $(VENV)/.ready ## time the kit against the official order of computation: PROFILE=mini, paper or gpu
	$(RUN) -m benchmarks.bench --profile "$(PROFILE)"

lock: $(VENV)/.ready ## rewrite both locks from pyproject.toml
	$(RUN) -m uv pip compile --quiet pyproject.toml --group dev --group docs --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --upgrade --output-file requirements.lock
	$(RUN) -m uv pip compile --quiet --group pyproject.toml:workflow --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --upgrade --output-file workflow/requirements.lock

clean: ## delete the environment; data, features and runs stay
	rm -rf $(VENV) $(WORKFLOW)

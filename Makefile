# Every target does its own set-up: a fresh clone needs Python 3.11+, make and the package registries.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/bin/uv
STAMP := $(VENV)/.installed
export UV_LINK_MODE ?= copy

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

$(UV): locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo 'Watchkeeper needs Python 3.11 to 3.13: run make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo 'Python cannot make a virtual environment: install your system'"'"'s python3-venv package' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
	@touch $(UV)

$(STAMP): $(UV) locks/requirements.txt pyproject.toml client/pyproject.toml
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes locks/requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable client --editable .
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || true
	@touch $(STAMP)

.PHONY: install
install: $(STAMP) ## leave .venv/bin/watchkeeper

.PHONY: lock
lock: $(UV) ## resolve the dependencies anew, with hashes
	@echo 'uv' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade -o locks/uv.txt -
	@sed '/watchkeeper-client/d' pyproject.toml > locks/.pyproject.toml && mkdir -p locks/.src && mv locks/.pyproject.toml locks/.src/pyproject.toml
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade \
	  --group locks/.src/pyproject.toml:dev locks/.src/pyproject.toml client/pyproject.toml -o locks/requirements.txt
	@rm -r locks/.src

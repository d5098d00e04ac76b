# Every target does its own set-up: a fresh clone needs Python 3.11 to 3.13, make and the package registries.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/bin/uv
STAMP := $(VENV)/.installed
KAFKA_PORT ?= 9092
export UV_LINK_MODE ?= copy

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

$(UV): locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo 'Watchkeeper needs Python 3.11 to 3.13: run make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo 'Python cannot make a virtual environment: install your system'"'"'s python3-venv package' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
	@touch $(UV)

$(STAMP): $(UV) locks/dev.txt pyproject.toml client/pyproject.toml
	@echo 'Installing what is locked into $(VENV) …' >&2
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r locks/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable client --editable .
	@touch $(STAMP)

.PHONY: install
install: $(STAMP) ## leave .venv/bin/watchkeeper

.PHONY: demo
demo: $(STAMP) ## the main job, live in this terminal: 90 s
	@$(BIN)/watchkeeper demo

.PHONY: up
up: $(STAMP) ## the whole engine on embedded defaults
	@$(BIN)/watchkeeper up

.PHONY: test
test: $(STAMP) ## unit tests, and the engine on the embedded broker
	@$(BIN)/pytest -n auto --dist worksteal -m 'not kafka and not postgres'

.PHONY: check
check: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m schemas.export --check

.PHONY: kafka
kafka: $(STAMP) ## Apache Kafka's own jars, one broker on loopback (KAFKA_PORT, default 9092)
	@$(BIN)/python -m tests.integration.parts.kafka --port $(KAFKA_PORT)

.PHONY: test-kafka
test-kafka: $(STAMP) ## integration and reliability, on Apache Kafka and PostgreSQL
	@$(BIN)/pytest -m 'kafka or postgres' tests

.PHONY: reliability
reliability: $(STAMP) ## the reliability tests at their full counts (hours)
	@WATCHKEEPER_RELIABILITY=full $(BIN)/pytest -m 'not embedded' --timeout 3600 tests/reliability tests/responders tests/streams

.PHONY: bench
bench: $(STAMP) ## cost by detector, then events per second beside stock Faust, Quix Streams and bare aiokafka
	@$(BIN)/python -m bench.detectors
	@$(BIN)/python -m bench.throughput

.PHONY: bench-stop
bench-stop: $(STAMP) ## the global stop: 1,000 subscribed agents, seconds until each denies
	@$(BIN)/python -m bench.global_stop

.PHONY: eval-session
eval-session: $(STAMP) ## docs/evaluation.md: session detectors on recorded runs (DATA=folder with traces/)
	@$(BIN)/python -m bench.eval_session $(or $(DATA),$(error say where the data are: make eval-session DATA=folder))

.PHONY: eval-nab
eval-nab: $(STAMP) ## docs/evaluation.md: the metric detector on the Numenta Anomaly Benchmark (DATA=folder with nab/)
	@$(BIN)/python -m bench.eval_nab $(or $(DATA),$(error say where the data are: make eval-nab DATA=folder))

.PHONY: eval-null
eval-null: $(STAMP) ## docs/evaluation.md: false alarms of a healthy fleet, 100 agents for 30 days
	@$(BIN)/python -m bench.eval_null

.PHONY: eval-traces
eval-traces: $(STAMP) ## docs/evaluation.md: real model swaps, the model hidden (DATA=folder with traces/)
	@$(BIN)/python -m bench.eval_traces $(or $(DATA),$(error say where the data are: make eval-traces DATA=folder))

.PHONY: eval-drills
eval-drills: $(STAMP) ## the drills of behaviour over seeds, with a picture of each
	@$(BIN)/python -m bench.eval_drills

.PHONY: eval-delay
eval-delay: $(STAMP) ## docs/evaluation.md: delay at equal false-alarm run length, beside the optimal CUSUM and river
	@$(BIN)/python -m bench.eval_delay

.PHONY: slack-pictures
slack-pictures: $(STAMP) ## docs/slack: pages as Slack shows them, drills photographed (needs chromium, fonts-noto-color-emoji)
	@$(BIN)/python -m tools.slack_pictures

.PHONY: schemas
schemas: $(STAMP) ## write the JSON Schema files and the AsyncAPI document anew
	@$(BIN)/python -m schemas.export

.PHONY: lock
lock: $(UV) ## resolve the dependencies anew, with hashes
	@$(UV) pip compile $(LOCK_FLAGS) --no-emit-package watchkeeper-client --group build pyproject.toml client/pyproject.toml -o locks/runtime.txt
	@$(UV) pip compile $(LOCK_FLAGS) --no-emit-package watchkeeper-client --group dev pyproject.toml client/pyproject.toml -o locks/dev.txt
	@echo uv | $(UV) pip compile $(LOCK_FLAGS) -o locks/uv.txt -
LOCK_FLAGS := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade

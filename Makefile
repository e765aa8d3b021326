# One command for each thing a developer does. `make setup` is done by the others when it is needed.
VENV := .venv
BIN := $(VENV)/bin
DATA_DIR ?= .headway
PORT ?= 8080
TESTERS ?= 3

.PHONY: setup demo up test lint check bench chaos lock

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml requirements.lock
	@set -eu; \
	for python in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break || python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Headway needs Python 3.11 or newer: install it, or name it, as in 'make setup PYTHON=/opt/python3.12/bin/python3'" >&2; \
		exit 1; \
	fi; \
	rm -rf $(VENV); \
	if command -v uv >/dev/null; then \
		uv venv --quiet --python "$$python" $(VENV); \
		uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock; \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
		"$$python" -m venv $(VENV) || { \
			rm -rf $(VENV); \
			echo "$$python cannot make virtual environments: on Debian and Ubuntu install the package python3-venv, or install uv" >&2; \
			exit 1; \
		}; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi; \
	touch $@

demo: setup ## the example deployed twice; EXIT=1 stops it all afterwards
	$(BIN)/headway demo --data-dir $(DATA_DIR) $(if $(EXIT),--exit)

up: setup
	$(BIN)/headway up --data-dir $(DATA_DIR) --port $(PORT)

test: export PYTHONDONTWRITEBYTECODE := # where it is set, each of hundreds of processes would compile all that it imports
test: setup ## by TESTERS processes: the tests wait more than they compute
	$(BIN)/pytest --numprocesses $(TESTERS) --dist loadscope --no-loadscope-reorder

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports

check: lint test

bench: setup
	$(BIN)/python -m benchmarks

chaos: setup ## kills every part at every status and counts; CELLS=worker:building,api for some, without a report; SCENARIO=soak
	$(BIN)/python -m tests.chaos $(if $(CELLS),--cells $(CELLS),--report docs/reliability.md) \
		$(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(SEED),--seed $(SEED))

lock: ## newest versions of everything, with hashes and without the address that they came from
	echo 'setuptools>=80' | uv pip compile pyproject.toml - --group dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock

# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# mypy does not see import hooks: it reads the folders through these links
NAMESPACE := build/ns/abhinaya
# two workers; tests/conftest.py says which tests stay together
SPREAD := --numprocesses 2 --dist loadgroup --no-loadscope-reorder

.PHONY: demo test test-all check lint types bench clean

demo: $(INSTALLED)
	$(BIN)/abhinaya-stream bench/demo/call.opus --channels split --channel-names agent,customer

test: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD)

check: lint types test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) $(NAMESPACE)
	$(BIN)/mypy $(NAMESPACE)

bench: $(INSTALLED)
	mkdir -p build/bench
	$(BIN)/abhinaya bench transport --json build/bench/transport.json
	$(BIN)/abhinaya bench latency --json build/bench/latency.json
	$(BIN)/abhinaya bench throughput --json build/bench/throughput.json

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(NAMESPACE):
	mkdir -p $@
	for folder in stream models train bench; do ln -sfn ../../../$$folder $@/$$folder; done

clean:
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

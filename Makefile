# Two commands on a fresh machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED := $(VENV)/.seeded

.PHONY: demo test check bench clean

demo: $(VENV)/.demo  ## serve the demo app, send it traffic, print what the kit saw
	$(BIN)/asgi-errorkit demo

test: $(SEED)  ## run the tests, with the branch coverage of the core
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=95

check: $(SEED)  ## lint, format, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(SEED)  ## measure the cost of a request against doing without, alone, grown and over the wire
	$(BIN)/python -m benchmarks.request
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.wire

$(SEED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(SEED) $(VENV)/.demo

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	touch $(VENV)/.demo

clean:
	rm -rf $(VENV) .tox .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

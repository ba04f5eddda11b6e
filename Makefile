# Two commands on a fresh machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SEED := $(VENV)/.seeded

.PHONY: demo test screenshots long check bench clean

demo: $(VENV)/.demo  ## serve the demo app, send it traffic, print what the kit saw
	$(BIN)/asgi-errorkit demo

test: $(SEED)  ## run the tests, with the branch coverage of the core
# The tests start hundreds of processes, and where PYTHONDONTWRITEBYTECODE is set each would
# compile all that it imports.
	$(BIN)/python -m compileall -q asgi_errorkit benchmarks tests
# In the order of their names, not of how many tests a file has: the longest has five, and would
# be begun when all others are done.
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder --cov --cov-report=term:skip-covered --cov-fail-under=95

screenshots: $(SEED)  ## take the pictures of README anew, in a headless browser
	ASGI_ERRORKIT_PICTURES=docs/images $(BIN)/python -m pytest tests/browser/test_pictures.py

long: $(SEED)  ## kill ten thousand workers, and look whether their records are right
	$(BIN)/python -m tests.spool.killed --kills 10000
	$(BIN)/python -m tests.spool.crowd --workers 4 --requests 200000

check: $(SEED)  ## lint, format, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(SEED)  ## measure everything, some twenty minutes, and write docs/benchmarks.md from it
	$(BIN)/python -m benchmarks.page --run

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

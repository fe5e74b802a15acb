# `make demo` and `make test` are all the set-up there is: both create .venv on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
TORCH  := torch==2.13.0

# Tests start many processes: none of them need compile the package again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-slow test-lowest lint docs bench clean

# One stamp per set of extras, so that `make demo` installs only what the demo needs.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch is installed first and by its pinned version: an unpinned torch may bring gigabytes of GPU libraries.
.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.installed-dev: .installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,dev]'
	touch $@

demo: .installed
	$(BIN)/cotrain demo --out out/demo

test: .installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: .installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

# With the lowest versions that pyproject.toml allows; torch alone is the pinned one.
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	sed -n '/^dependencies/,/^]/s/^ *"\([a-z0-9-]*\)>=\(.*\)",/\1==\2/p' pyproject.toml | sed 's/^torch==.*/$(TORCH)/' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt --editable '.[test]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2

lint: .installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .installed-dev
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: .installed-dev
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/main_job.py

clean:
	rm -rf $(VENV) $(LOWEST) .installed .installed-dev out docs/_build

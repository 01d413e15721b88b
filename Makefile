# The front door. `make demo` and `make test` need Python >= 3.11, git and make, nothing else:
# each makes .venv and installs what it needs by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-slow lint types bench docs clean
.DEFAULT_GOAL := install

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[exact,lp,train,bench,docs,dev]'
	touch $@

demo: install
	$(BIN)/flowcut demo --output demo

test: install lint types
	$(BIN)/python -m pytest -m 'not slow'

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

docs: install
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf .venv build dist docs/_build demo .pytest_cache .mypy_cache .ruff_cache

# `make demo` and `make test` are all a newcomer needs; each sets up the environment first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test lint clean
help:  ## say what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# torch first: what comes after it is satisfied by it and fetches no other build.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[all,dev]"
	touch $@

install: $(VENV)/.installed  ## make .venv with everything that is locked

demo: install  ## compare every strategy on real film reviews, into runs/demo
	$(BIN)/headstart compare examples/film_reviews.yaml

lint: install  ## ruff, strict types, layer contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, then the tests: all that CI runs
	$(BIN)/pytest

clean:  ## remove what was made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

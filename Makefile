# Everything on a machine that has only Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUTPUT ?= outputs/quickstart

.PHONY: help install quickstart test test-all lint format clean

help:
	@echo "make quickstart  generate data, train both stages, evaluate, draw figures (about 6 minutes on 2 cores)"
	@echo "make test        the fast tests"
	@echo "make test-all    the slow ones too"
	@echo "make lint        ruff check and format check"
	@echo "make format      ruff format and safe fixes"
	@echo "make clean       remove the virtual environment, caches and outputs/"

# Re-installed only when the requirements change.
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

install: $(VENV)/.installed

quickstart: install
	$(BIN)/python -m training.quickstart --output $(OUTPUT)

test: install
	$(BIN)/python -m pytest

test-all: install
	$(BIN)/python -m pytest -m "slow or not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache *.egg-info outputs

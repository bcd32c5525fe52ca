# make train   everything from nothing: environment, demo data, training, report
# make test    everything from nothing: environment, ruff, mypy, all tests
# make lint    ruff and mypy alone        make clean   remove the environment and caches

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROJECT := setup.cfg pyproject.toml constraints.txt

.PHONY: train test lint clean

train: $(VENV)/installed
	$(BIN)/python -m trainer.main --strategy=mirrored

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: $(PROJECT) | $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(PROJECT) | $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	    "error: Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d; name one: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

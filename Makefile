# make train   sets up the environment, draws demo data, trains and reports
# make test    sets up the environment, runs ruff, mypy and all tests without those of the targets below; ten minutes
# make test-stops   whole trainings, searches and services that are stopped or killed and continue; about ten minutes
# make test-slurm   batch jobs on a real Slurm of two nodes, which is installed if it is missing; as root, about six minutes
# make test-quick   the tests that take less than about half a second each; two minutes
# make test-extras   the tests of the extras beam, remote and tfio, in two environments of their own
# make lint    ruff and mypy alone        make clean   remove the environment and caches

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STOPS := stops
SLURM := slurm
PROJECT := setup.cfg pyproject.toml constraints.txt

.PHONY: train test test-quick test-stops test-slurm install-extras test-extras lint clean

train: $(VENV)/installed
	$(BIN)/python -m trainer.main --strategy=mirrored

test: $(VENV)/installed-dev lint
	$(BIN)/python -m pytest -n 2 -m 'not slurm and not stops and not image'

test-stops: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 -m '$(STOPS)'

test-quick: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 -m 'not slow'

# A skipped test fails here.
test-slurm: $(VENV)/installed-dev
	command -v slurmctld >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes \
	    --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null; }
	NO_SKIPS=1 $(BIN)/python -m pytest -m '$(SLURM)' tests/launch/slurm/test_jobs.py

# These extras need older packages than constraints.txt pins.
install-extras: $(VENV)-extras/installed $(VENV)-tfio/installed

# A skipped test fails here.
test-extras: install-extras
	NO_SKIPS=1 $(VENV)-extras/bin/python -m pytest -n 2 tests/tfrecords/convert/test_engines.py::TestBeam \
	    tests/tfrecords/convert/test_remote.py tests/data_pipeline/test_fetch.py tests/trainer/test_remote.py \
	    -k 'not tensorflow_reads_s3_itself'
	NO_SKIPS=1 $(VENV)-tfio/bin/python -m pytest tests/data_pipeline/test_order.py tests/trainer/test_remote.py \
	    -k 'golden or tensorflow_reads_s3_itself'

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-extras $(VENV)-tfio build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: $(PROJECT) | $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)-extras/installed: setup.cfg constraints-extras.txt
	$(PYTHON) -m venv $(VENV)-extras
	$(VENV)-extras/bin/python -m pip install --quiet -c constraints-extras.txt -e '.[beam,remote,s3test]'
	touch $@

$(VENV)-tfio/installed: setup.cfg constraints-tfio.txt
	$(PYTHON) -m venv $(VENV)-tfio
	$(VENV)-tfio/bin/python -m pip install --quiet -c constraints-tfio.txt -e '.[tfio,s3test]'
	touch $@

$(VENV)/installed-dev: $(PROJECT) | $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/installed

$(VENV):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	    "error: Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is %d.%d; name one: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

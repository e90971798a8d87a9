# Everything stays in this checkout: the environment and matplotlib's font cache in .venv, runs in data/runs, Prefect's
# state in .prefect.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
READY := $(VENV)/.ready

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_HOME := $(CURDIR)/.prefect
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib

.PHONY: setup demo deploy undeploy test test-slow check faults mutants bench clean

setup: $(READY)

# Installs again only after a change of the lock or the project file.
$(READY): requirements.lock pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-cache-dir uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --no-cache --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --no-cache --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: setup
	$(BIN)/ssl-pipeline run configs/demo.yaml

# A server, a pool, all deployments and a worker on this machine; PORT=4300 for another port. What already runs stays.
PORT ?= 4200
deploy: setup
	$(BIN)/python -m flows.operations.deploy up --port $(PORT)

undeploy: setup
	$(BIN)/python -m flows.operations.deploy down

# One process per core with one thread each, so that they do not wait for each other.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder -m "not slow"

# Clusters, S3 over HTTP, a wheel, reviews and limits on a server: takes some minutes.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kills its own servers, workers and runs and fills a disk, for about twenty minutes; writes docs/faults.md.
faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.run_faults

# Changes the code in thousands of small ways and runs the tests of each, for hours; continues where it was stopped.
mutants: setup
	$(BIN)/python -m benchmarks.mutants

bench: setup
	$(BIN)/python -m benchmarks.bf16_speed

clean:
	rm -rf $(VENV) data/runs .prefect

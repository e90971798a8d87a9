# Everything stays in this checkout: the environment and matplotlib's font cache in .venv, runs in data/runs, Prefect's
# state in .prefect.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9

# make demo TORCH=cpu: torch and torchvision without CUDA. The environment remembers it.
BUILD := $(or $(TORCH),$(if $(wildcard $(VENV)/.ready-cpu),cpu))
ifneq ($(filter-out cpu,$(BUILD)),)
$(error TORCH=$(TORCH): expected cpu)
endif
READY := $(VENV)/.ready$(BUILD:%=-%)
READY_DEV := $(VENV)/.ready-dev

# The lock has a hash for every package, but none for the CPU builds of these two: with them, uv checks those it has.
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --no-cache
LOCKED := $(INSTALL) $(if $(BUILD),--verify-hashes,--require-hashes) --compile-bytecode \
	--requirements pyproject.toml --constraint requirements.lock

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_HOME := $(CURDIR)/.prefect
export MPLCONFIGDIR := $(CURDIR)/$(VENV)/matplotlib

.PHONY: setup setup-dev demo deploy undeploy test test-slow test-browser check faults mutants bench clean

# What running needs; setup-dev adds every extra, with the tools for tests and checks. Nothing is ever taken away.
setup: $(READY)
setup-dev: $(READY_DEV)

# Installs again only after a change of the lock or the project file.
$(READY): requirements.lock pyproject.toml
	command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-cache-dir uv==$(UV_VERSION)
ifeq ($(BUILD),cpu)
	@$(TORCH_CPU)
endif
	$(LOCKED)
	$(INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

$(READY_DEV): $(READY)
	$(LOCKED) --all-extras
	touch $@

# One of the extras in pyproject.toml: make extra-ray
extra-%: setup
	$(LOCKED) --extra $*

# The CPU builds come from PyTorch's own index, before all else: they satisfy the lock's versions, so that neither the
# locked builds nor CUDA are fetched.
define TORCH_CPU
if [ -e $(VENV)/lib/python3*/site-packages/nvidia ]; then \
	echo "TORCH=cpu: $(VENV) keeps the locked build, with CUDA: about $(CUDA_SIZE). Remove $(VENV) to change it."; \
else \
	$(INSTALL) --no-deps --torch-backend cpu $$(grep -oE '^(torch|torchvision)==[^ ]+' requirements.lock) \
	|| echo "TORCH=cpu: no CPU build can be had. The locked build is installed; on Linux with CUDA: about $(CUDA_SIZE)."; \
fi
endef
CUDA_SIZE := 3.3 GB downloaded, 6.7 GB on disk

demo: setup
	$(BIN)/ssl-pipeline run configs/demo.yaml

# A server, a pool, all deployments and a worker on this machine; PORT=4300 for another port. What already runs stays.
PORT ?= 4200
deploy: setup
	$(BIN)/python -m flows.operations.deploy up --port $(PORT)

undeploy: setup
	$(BIN)/python -m flows.operations.deploy down

# One process per core with one thread each, so that they do not wait for each other.
test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder -m "not slow and not browser"

# Clusters, S3 over HTTP, a wheel, reviews and limits on a server: takes some minutes.
test-slow: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder -m slow

# Drives the report and the review page in the system's Chromium (apt-get install chromium); skipped where there is none.
test-browser: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs tests/browser

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kills its own servers, workers and runs and fills a disk, for about twenty minutes; writes docs/faults.md.
faults: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.run_faults

# Changes the code in thousands of small ways and runs the tests of each, for hours; continues where it was stopped.
mutants: setup-dev
	$(BIN)/python -m benchmarks.mutants

bench: setup
	$(BIN)/python -m benchmarks.bf16_speed

clean:
	rm -rf $(VENV) data/runs .prefect

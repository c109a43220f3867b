# Everything a newcomer needs; `make` alone lists it. All of it happens in .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
JOBS   ?= 2
ARGS   ?=

# The lock is for 3.11; its numpy and scipy no longer support 3.10, which gets the lower bounds.
CONSTRAIN = $$($(BIN)/python -c 'import sys; print("-c requirements/lock.txt" if sys.version_info >= (3, 11) else "")')

.DEFAULT_GOAL := help
.PHONY: help run test lint type docs edge-wheel clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is passed on, as in: make run ARGS="--objects primitives --n-objects 3"'

run: $(VENV)/.core ## clear a table with the shipped bundle; report and video go into runs/
	@$(BIN)/steadyhand run $(ARGS)

test: $(VENV)/.dev ## run the tests (all of them: ARGS="-m 'slow or not slow'")
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

type: $(VENV)/.dev ## check types
	@$(BIN)/mypy

docs: $(VENV)/.dev ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

edge-wheel: $(VENV)/.core ## build the wheel for the robot, steadyhand-edge, into dist/
	@$(BIN)/python requirements/edge/build.py --out dist

clean: ## remove what was built and cached; .venv and runs/ stay
	@rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(VENV)/.made:
	@test -n "$(PYTHON)" || { \
	  echo "steadyhand: no Python found; install Python 3.11, as in: apt install python3.11 python3.11-venv" >&2; exit 2; }
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "steadyhand: there is no $(PYTHON); try: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 12))' || { \
	  echo "steadyhand: needs Python 3.10 or 3.11, but $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "steadyhand: $(PYTHON) cannot make virtual environments; install the package python$$v-venv, as in: apt install python$$v-venv" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# No stamp is left where an import fails, so that the next `make` checks again.
$(VENV)/.core: $(VENV)/.made pyproject.toml requirements/lock.txt
	@echo "steadyhand: installing the runtime and the simulator into $(VENV)" >&2
	@$(PIP) install --quiet $(CONSTRAIN) -e .
	@$(BIN)/python requirements/check.py >/dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "steadyhand: installing what trains and tests into $(VENV) (torch alone takes some GB)" >&2
	@$(PIP) install --quiet $(CONSTRAIN) -e '.[dev]'
	@$(BIN)/python requirements/check.py torch torchvision >/dev/null
	@touch $@

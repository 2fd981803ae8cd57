# Six words: demo test lint bench docs clean. Each sets itself up; only Python 3.11 or later with venv and pip is needed.
export GNNPATIENT_DATA ?= $(CURDIR)/../shared/data
export GNNPATIENT_FAULTS ?= $(CURDIR)/../shared/faults/corpus
export GNNPATIENT_FIELD ?= $(CURDIR)/../shared/faults/field
unexport PYTHONDONTWRITEBYTECODE # pytest rewrites 118 files of tests: once, and not once a process

PYTHON := .venv/bin/python
# Not compiled ahead: of the many files of torch and transformers few are ever imported.
PIP := $(PYTHON) -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
EDITABLE := $(PIP) --no-build-isolation --editable

# The shapes of tensors are checked where they are what is tested: elsewhere that takes longer than the tests do.
SHAPES := --jaxtyping-packages=gnnpatient,beartype.beartype
CHECKED := tests/model tests/laws tests/test_metrics.py

.PHONY: demo test lint bench docs clean

demo: .venv/.test
	.venv/bin/gnnpatient demo

# A process for each core, and in it one thread: the tables are small, and with a thread for each core polars waits
# longer for its threads than it works. The slow tests are run with them, and one of them compares.
test: export POLARS_MAX_THREADS = 1
test: export OMP_NUM_THREADS = 1
test: .venv/.test
	$(PYTHON) -m pytest -m "not slow" --numprocesses auto --dist worksteal $(SHAPES) $(CHECKED)
	$(PYTHON) -m pytest -m "not slow" --numprocesses auto --dist worksteal $(addprefix --ignore=,$(CHECKED))

lint: .venv/.dev
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m ruff check
	$(PYTHON) -m mypy

bench: .venv/.test
	$(PYTHON) experiments/speed.py

# Needs no network once .venv is set up. A warning is an error: a dead link, a page without a place, a name that is gone.
docs: .venv/.docs
	$(PYTHON) -m gnnpatient.spec.reference docs
	$(PYTHON) .ci/cli_page.py docs/cli.md
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --quiet
	$(PYTHON) .ci/check_site.py site

clean:
	rm -rf .venv build dist site docs/cli.md .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than what it was made from, so a second call installs nothing and needs no network.
.venv/.test: pyproject.toml constraints.txt
	@for python in python3.11 python3.12 python3.13 python3; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "setting up .venv with $$($$python --version), which takes a few minutes the first time"; \
	    exec $$python -m venv .venv; \
	  fi; \
	done; \
	echo "No Python 3.11 or later with venv and pip was found (on Debian: apt install python3 python3-venv)." >&2; exit 1
	@$(PIP) hatchling editables
	@$(EDITABLE) '.[test]'
	@touch $@

.venv/.docs: .venv/.test
	@$(EDITABLE) '.[docs]'
	@touch $@

.venv/.dev: .venv/.test
	@$(EDITABLE) '.[dev]'
	@touch $@

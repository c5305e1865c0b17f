# Set-up and work need one command on a machine with Python 3.11 or later, pip, make and git: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test processes; each computes with one thread.
WORKERS ?= 2

.PHONY: demo test acceptance fuzz bench docs format clean

# Phantoms, training, evaluation and a report in the folder demo/.
demo: $(STAMP)
	$(RUN)/anymri demo --output demo

# Everything that continuous integration checks.
test: $(STAMP)
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/lint-imports
	OMP_NUM_THREADS=1 $(RUN)/pytest -q -n $(WORKERS) --dist worksteal -m "not acceptance"

# Full-size trials, the whole demo among them, which take longer than `make test`.
acceptance: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN)/pytest -q -n $(WORKERS) --dist worksteal -m acceptance

# Image files that are changed at random: reading must end in the right image or in an error. FIRST is the first seed;
# files that fail are kept in fuzz/.
FILES ?= 5000
FIRST ?= 0
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(RUN)/python -m robustness.fuzz $(FILES) $(FIRST)

# What each system costs on this machine, see docs/performance.md.
bench: $(STAMP)
	$(RUN)/python benchmarks/systems.py

# The documentation site in site/; a link or anchor inside it that leads nowhere is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

format: $(STAMP)
	$(RUN)/ruff check --fix
	$(RUN)/ruff format

clean:
	rm -rf $(VENV) demo fuzz site

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

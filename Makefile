# Two commands do all the set-up on a machine with Python 3.11 or later, pip, make and git: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Threads of the numeric libraries in each test process.
WORKERS ?= 2

.PHONY: demo test format clean

demo: $(STAMP)
	$(RUN)/anymri demo --output demo

test: $(STAMP)
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	OMP_NUM_THREADS=1 $(RUN)/pytest -q -n $(WORKERS) -m "not demo"
	$(RUN)/pytest -q -m demo

format: $(STAMP)
	$(RUN)/ruff check --fix
	$(RUN)/ruff format

clean:
	rm -rf $(VENV) demo

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

# Set-up and work need one command on a machine with Python 3.11 or later, pip, make and git: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .release
# Test processes; each computes with one thread.
WORKERS ?= 2

.PHONY: demo test packages acceptance fuzz bench docs extras lock notice sbom audit format clean

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

# Source package and wheel; the wheel with one extra is installed into an environment of its own and used.
packages: $(STAMP)
	rm -rf dist .extras
	$(RUN)/python -m build --no-isolation
	$(RUN)/python benchmarks/extras.py .extras dicom --wheel dist/*.whl

# Full-size trials, the whole demo among them, which take longer than `make test`.
acceptance: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN)/pytest -q -n $(WORKERS) --dist worksteal -m acceptance

# Image files that are changed at random: reading must end in the right image or in an error. FIRST is the first seed;
# files that fail are kept in fuzz/.
FILES ?= 5000
FIRST ?= 0
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(RUN)/python -m robustness.fuzz $(FILES) $(FIRST)

# What each system, each lane and the metrics cost on this machine, see docs/performance.md.
bench: $(STAMP)
	$(RUN)/python benchmarks/systems.py
	$(RUN)/python benchmarks/lanes.py
	$(RUN)/python benchmarks/metrics.py

# The documentation site in site/; a link or anchor inside it that leads nowhere is an error.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

# Size and cost of the core and of each extra alone, see docs/install.md. EXTRAS="report train" measures two of them.
EXTRAS ?=
extras: $(STAMP)
	rm -rf .extras
	$(RUN)/python benchmarks/extras.py .extras $(EXTRAS)

# Locked requirements, see docs/install.md. TORCH_CPU says where the CPU build of torch comes from.
TORCH_CPU ?= --torch-backend cpu
COMPILE := $(TOOLS)/bin/uv pip compile pyproject.toml --quiet --extra all --constraint constraints.txt --generate-hashes
COMPILE += --python-version 3.11 --custom-compile-command "make lock"
lock: $(TOOLS)
	$(COMPILE) --python-platform x86_64-manylinux_2_28 $(TORCH_CPU) --output-file requirements/cpu.txt
	$(COMPILE) --universal --output-file requirements/cuda.txt

# Licences of the locked packages, read from their metadata in an environment of their own.
notice: $(TOOLS)
	$(TOOLS)/bin/uv venv --quiet --clear --python 3.11 .locked
	$(TOOLS)/bin/uv pip install --quiet --python .locked/bin/python --require-hashes $(TORCH_CPU) -r requirements/cpu.txt
	.locked/bin/python release/notice.py

# List of the locked packages for scanners (CycloneDX), and the known vulnerabilities of them; the second needs the network.
sbom: $(TOOLS)
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py requirements requirements/cpu.txt --pyproject pyproject.toml --output-file dist/anymri-cpu.cdx.json
	$(TOOLS)/bin/cyclonedx-py requirements requirements/cuda.txt --pyproject pyproject.toml --output-file dist/anymri-cuda.cdx.json

audit: $(TOOLS)
	$(TOOLS)/bin/pip-audit --disable-pip --requirement requirements/cpu.txt

format: $(STAMP)
	$(RUN)/ruff check --fix
	$(RUN)/ruff format

clean:
	rm -rf $(VENV) $(TOOLS) .extras .locked dist demo fuzz site

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

$(TOOLS): requirements/release.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check -r requirements/release.txt
	touch $@

# Everything runs from .venv, made from the system Python because bcc's Python
# bindings come from the distribution and serve only that one.

.DEFAULT_GOAL := help
.PHONY: help setup fleet demo test kernels test-unit lint format docs notebook-recordings bench bench-fleet clean
.DELETE_ON_ERROR:

SHELL := /bin/sh
PYTHON := .venv/bin/python
STAMP := .venv/.droptape-setup
FLEET_STAMP := .venv/.droptape-fleet

# A user's pip configuration may name the index to use, but must not send the
# packages elsewhere than into .venv.
PIP := env -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 PYTHONNOUSERSITE=1 \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(PYTHON) -m pip

# Probes, namespaces and firewall rules need root. Under sudo, write no byte
# code or caches into the tree: they would belong to root.
ifeq ($(shell id -u),0)
  AS_ROOT := env
else
  AS_ROOT := sudo env PYTHONDONTWRITEBYTECODE=1
endif

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | \
		sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 12

setup: $(STAMP)  ## system packages and .venv (quick when nothing changed)

$(STAMP): pyproject.toml .ci/setup
	@.ci/setup
	@if ! $(PYTHON) -m pip --version >/dev/null 2>&1; then \
		rm -rf .venv && /usr/bin/python3 -m venv --system-site-packages .venv; fi
	@echo "setup: installing Python packages into .venv"
	@$(PIP) install --quiet --editable '.[analyze,record,dev]'
	@# As pip does for what it copies: root does not write here, and would compile at every start.
	@$(PYTHON) -m compileall -q analyze bpf recorder
	@touch $@

fleet: setup $(FLEET_STAMP)  ## Java, Spark and what else the tests of datasets need

$(FLEET_STAMP): pyproject.toml .ci/setup
	@.ci/setup fleet
	@echo "setup: installing Spark and other engines into .venv"
	@$(PIP) install --quiet --editable '.[fleet-dev]'
	@touch $@

demo: setup  ## make trouble in namespaces of its own, record it, explain it
	@$(AS_ROOT) PYTHONPATH=tests $(PYTHON) -m lab.demo

test: fleet  ## every test, unit and kernel (root, or sudo)
	.ci/tests $(ARGS)

kernels: setup  ## a test of each mechanism on stock kernels in VMs, and a table (KERNELS="6.1 newest")
	@.ci/setup kernels
	$(AS_ROOT) PYTHONPATH=tests $(PYTHON) -m vm test $(KERNELS) $(ARGS)

test-unit: fleet  ## the tests that need no privilege
	$(PYTHON) -m pytest tests/unit --numprocesses auto --dist loadfile $(ARGS)

lint: fleet  ## ruff and mypy
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: setup  ## let ruff fix and format
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

docs: setup  ## what is generated from the declarations
	$(PYTHON) -m droptape.bpf.document > docs/FORMAT.md
	$(PYTHON) -m droptape.analyze.diagnosis.document > docs/DIAGNOSE.md
	$(PYTHON) docs/reference.py > docs/CLI.md

notebook-recordings: setup  ## make the recordings of the notebooks anew (root, or sudo)
	$(AS_ROOT) PYTHONPATH=tests $(PYTHON) notebooks/make_recordings.py

bench: setup  ## measure cost, throughput and size (root, or sudo)
	$(AS_ROOT) PYTHONPATH=tests $(PYTHON) benchmarks $(ARGS)

bench-fleet: fleet  ## measure what questions to many hosts cost (some ten minutes)
	PYTHONPATH=tests $(PYTHON) benchmarks/fleet.py $(ARGS)
	PYTHONPATH=tests $(PYTHON) benchmarks/fleet.py --spark --hosts 10,100,500

clean:  ## remove .venv, caches and build results (recordings stay)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

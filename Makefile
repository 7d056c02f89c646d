# Everything a checkout needs, from nothing but Python 3.11 (with venv) and make.
#
#   make serve        install, train and register the example models, serve them on 127.0.0.1:8000
#   make test         install and run the everyday tests
#   make test-all     the slow ones as well
#   make check        style, types, import contract, architecture
#   make bench        every benchmark (for hours), results in benchmarks/results/
#   make image-test   build the container image, run it read-only, predict and explain against it
#   make docs         regenerate the tables in docs/
#   make docs-errors  measure the errors of gradients that docs/operators.md shows
#   make lock         regenerate deploy/requirements-serving.lock and deploy/requirements-build.lock
#   make clean        remove everything that the targets above made
#
# TORCH_INDEX=<address of an index with CPU-only builds of torch> saves the download of CUDA libraries.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
SERVING := $(VENV)/.installed-serving
TESTING := $(VENV)/.installed-testing
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install serve test test-all check bench image-test docs docs-errors lock clean

help:
	@sed -n '3,14s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no python3.11 and no python3 found; set PYTHON"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON")'
	$(PYTHON) -m venv $(VENV)

$(SERVING): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[cpu,train]'
	@touch $@

$(TESTING): pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[cpu,train,judges,otel,dev]'
	@touch $@ $(SERVING)

install: $(SERVING)

serve: $(SERVING)
	$(BIN)/glasshouse examples
	$(BIN)/glasshouse serve

test: $(TESTING)
	$(PYTEST) -n 2 -m "not slow and not image"

test-all: $(TESTING)
	$(PYTEST) -n 2 -m "not image"

check: $(TESTING)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -q tests/test_architecture.py tests/test_packaging.py

bench: $(TESTING)
	@set -e; for script in benchmarks/*.py; do \
		echo "$$script"; $(BIN)/python -m benchmarks.$$(basename "$$script" .py); done

image-test: $(TESTING)
	$(PYTEST) -m image tests/end_to_end/test_image.py

docs: $(TESTING)
	PYTHONPATH=. $(BIN)/python docs/generate.py

docs-errors: $(TESTING)
	PYTHONPATH=. OMP_NUM_THREADS=1 $(BIN)/python docs/operators_errors.py

lock: $(BIN)/python
	$(BIN)/python deploy/make_lock.py

clean:
	rm -rf $(VENV) build dist var .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis lightning_logs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One way in. `make` alone lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python that is new enough. Say PYTHON=... to choose another.
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
endif

# Each worker may start servers and a browser of its own: two fit on the smallest machine.
WORKERS ?= 2
PYTEST := .venv/bin/python -m pytest -n $(WORKERS)

.PHONY: help
help: ## List what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .demo ## Start a flag server, and two versions of an example service under load; Ctrl-C ends it
	@exec .venv/bin/flagserver demo

.PHONY: test
test: .test system lint types ## Everything a change must pass, in ten minutes on two cores
	$(PYTEST) -m "not slow" tests

.PHONY: test-all
test-all: .test system lint types ## Everything: the whole of the large matrices, and the slow tests
	SORTITION_ALL=1 $(PYTEST) tests

.PHONY: bench
bench: .test .bench ## Run every benchmark against its bar; writes docs/reference/benchmarks.md
	@.venv/bin/python -m bench

.PHONY: lint
lint: .test ## Ruff, and who may import whom
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports --no-logo --cache-dir .cache/import_linter

.PHONY: types
types: .test ## mypy, strict on both distributions, and the SDK for the oldest Python it serves
	@.venv/bin/mypy
	@.venv/bin/mypy --python-version 3.10 sdk/src/sortition

.PHONY: format
format: .test ## Put the code in shape
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

.PHONY: hooks
hooks: .dev ## Check every commit as it is made
	@.venv/bin/pre-commit install

.PHONY: lock
lock: .dev ## Write requirements/*.txt anew from the ranges; UPGRADE=1 takes newer releases
	@.venv/bin/python scripts/lock $(if $(UPGRADE),--upgrade)

.PHONY: dist
dist: .test ## Build the wheels and sdists of both distributions into dist/
	@rm -rf dist
	@.venv/bin/python -m build --no-isolation --outdir dist sdk
	@.venv/bin/python -m build --no-isolation --outdir dist .

.PHONY: clean
clean: ## Remove what was made, except a server's data
	rm -rf .venv .venv.lock .cache dist admin/static/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# --- what the above stand on -------------------------------------------------------------------

# Each brings .venv up to what it needs; one that fits already costs a tenth of a second.
.PHONY: .runtime .demo .test .dev .bench
.runtime .demo .test .dev .bench: .python
	@$(PYTHON) scripts/setup $(patsubst .%,%,$@)

.PHONY: .python
.python:
	@test -n "$(PYTHON)" || { echo "Sortition needs Python 3.11 or later with venv and pip (python3, or make PYTHON=...)." >&2; exit 1; }

.PHONY: system
system: .test
	@scripts/system-deps

# `make` lists the targets. ARGS goes through to the command: make run ARGS="--set trainer.epochs=3"
# PYTHON names the interpreter that .venv is created with; without it the first suitable one is used.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV ?= uv
ARGS ?=

# The original archives of MNIST, when they lie beside the checkout and nobody named others.
ARCHIVES := $(or $(BNPIPE_ARCHIVES),$(realpath ../shared/datasets/mnist))
ifneq ($(ARCHIVES),)
export BNPIPE_ARCHIVES := $(ARCHIVES)
endif

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

# With neither network nor archives the data set is drawn, and said so first and last.
.PHONY: run
run: $(STAMP) ## run the pipeline (ARGS="..." goes to `bnpipe run`)
	@notice=$$($(BIN)/python -P -m bnpipe.pipeline.reachable $(ARGS)) || notice=; \
	if [ -z "$$notice" ]; then exec $(BIN)/bnpipe run $(ARGS); fi; \
	echo "$$notice"; \
	status=0; $(BIN)/bnpipe run --set data.dataset=rendered_digits $(ARGS) || status=$$?; \
	echo "$$notice"; \
	exit $$status

# On all cores, a file on one of them: what a file prepares for its tests is made once. The order
# stays as it is (the longest come first). ARGS=-n0 runs one test after another, in one process.
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(STAMP) ## run the quick tests (ARGS="..." goes to pytest; ARGS=-n0: on one core)
	@$(PYTEST) -m "not slow and not flink" $(ARGS)

.PHONY: test-slow
test-slow: $(STAMP) ## run the slow tests and those on a Flink cluster
	@$(PYTEST) -m "slow or flink" $(ARGS)

.PHONY: lint
lint: $(STAMP) ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lock
lock: ## write requirements.lock anew (needs uv; ARGS=--upgrade takes the newest versions)
	@command -v $(UV) >/dev/null || { \
	  echo "make lock: uv not found; install it (pip install uv) or name it: make lock UV=<path>" >&2; \
	  exit 2; }
	$(UV) pip compile setup.py --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock $(ARGS)

.PHONY: clean
clean: ## remove .venv, caches and build products (.bnpipe with its models stays)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find pipeline components data serving tests -name __pycache__ -prune -exec rm -rf {} +

.PHONY: venv
venv: $(STAMP) ## create .venv and install requirements.lock into it

# ------------------------------------------------------------------ .venv
# The stamp is written last. Without it the environment is of unknown state and is made from
# scratch; with an older one it is brought up to date.
$(STAMP): requirements.lock setup.py
	@if [ ! -e $@ ]; then $(find_python); \
	  echo "Creating $(VENV) with $$($$python --version) and the packages of requirements.lock" \
	    "(about 3 GB, some minutes)"; \
	  $$python -m venv --clear $(VENV); \
	else echo "Bringing $(VENV) up to date with requirements.lock and setup.py"; fi
	@rm -f $@
	@# Build tools first: packages without a wheel are then built with these, not with unpinned ones.
	@awk '/^[a-z0-9]/ {on = /^(packaging|setuptools|wheel)==/} on' requirements.lock \
	  > $(VENV)/build-tools.txt
	@$(PIP) install --no-deps --require-hashes -r $(VENV)/build-tools.txt
	@$(PIP) install --no-deps --require-hashes --no-build-isolation -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@# Type checkers and editors read folders: here the four have the names they are imported by.
	@mkdir -p $(VENV)/src/bnpipe
	@ln -sfn $(foreach room,pipeline components serving data,../../../$(room)) $(VENV)/src/bnpipe
	@touch $@

# Sets `python` to the first interpreter that really runs (a shim may exist and fail), is
# CPython 3.11 to 3.13 and can create environments; without one says so and exits with 2.
define find_python
probe='import ensurepip, platform, sys, venv; \
good = sys.implementation.name == "cpython" and (3, 11) <= sys.version_info[:2] <= (3, 13); \
print(platform.python_implementation(), platform.python_version()); sys.exit(not good)'; \
found=; python=; \
for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
  if ! command -v "$$candidate" >/dev/null && [ "$$candidate" != "$(PYTHON)" ]; then continue; fi; \
  if answer=$$("$$candidate" -c "$$probe" 2>&1); then python=$$candidate; break; fi; \
  found="$$found$${found:+, }$$candidate ($$(tail -n 1 <<< "$${answer:-does not run}"))"; \
done; \
if [ -z "$$python" ]; then \
  echo "bnpipe needs CPython 3.11, 3.12 or 3.13 with venv; found $${found:-no python3 at all}." \
    "Install one (Debian, Ubuntu: apt-get install python3-venv) or name it: make PYTHON=<path>" >&2; \
  exit 2; \
fi; \
if [ -n "$$found" ]; then echo "Passed over: $$found"; fi
endef

# Two commands from a fresh clone, with nothing but Python (>= 3.11) and make:
#   make demo    install, register the shipped examples, say where the pictures are
#   make test    install, lint, check types, run the tests
# and for those who take part:
#   make docs    build the site, docs/_build/html/index.html
#   make wheel   build the wheel and try it outside the checkout
#   make test-all      run the tests with the whole registrations that make test leaves out
#   make test-oldest   run the tests with the oldest dependencies that pyproject.toml allows, in .venv-oldest
# PYTHON=python3.12 chooses the interpreter; PIP_ARGS adds options to pip, such as an index of CPU-only wheels of torch
# (see CONTRIBUTING.md).

PYTHON ?= python3
VENV ?= .venv
OUT ?= out
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint $(CONSTRAINTS) $(PIP_ARGS)
HANDS = $(wildcard assets/examples/hand*.ply)
PHOTOS = $(wildcard assets/examples/*.jpg)
PEOPLE = $(filter-out $(HANDS),$(wildcard assets/examples/*.ply))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-oldest tests-only lint docs wheel clean

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

# The stamps are newer than what decides the environment; the package itself is installed editable and needs no stamp.
$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lvdreg needs Python 3.11 or newer: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.test: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.docs: $(VENV)/.python pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run
	$(BIN)/lvdreg register $(PEOPLE) --model anny+d --out $(OUT)
	$(if $(HANDS),$(BIN)/lvdreg hands $(HANDS) --model anny-hand+d --out $(OUT))
	$(if $(PHOTOS),$(BIN)/lvdreg image $(PHOTOS) --out $(OUT))
	@echo "Look at: $(foreach scan,$(PEOPLE) $(HANDS),$(OUT)/$(basename $(notdir $(scan)))/preview.png)" \
		"$(foreach photo,$(PHOTOS),$(OUT)/$(basename $(notdir $(photo)))/overlay.png)"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache > $(VENV)/imports.txt || (cat $(VENV)/imports.txt; exit 1)
	@tail -n 2 $(VENV)/imports.txt

# One thread for each of the two workers: on a machine with few cores, threads of BLAS and OpenMP only wait for each other.
# A file goes to one worker, so that what its tests share, such as a registered example, is made once.
PYTEST = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -q

test: lint
	$(PYTEST)

tests-only: $(VENV)/.test
	$(PYTEST) -m ""

test-all: lint
	$(PYTEST) -m ""

test-oldest:
	$(MAKE) tests-only VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt

# Every warning is an error, and so is a page that asks for anything from outside, but for links that a reader follows.
docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build/html
	@! grep -rEn '<(script|link|img|iframe|source)[^>]* (src|href)="(https?:)?//|url\(.?(https?:)?//|@import' \
		docs/_build/html --include='*.html' --include='*.css'
	@echo "Look at: docs/_build/html/index.html"

wheel: $(VENV)/.dev
	$(BIN)/python -m pip wheel . --no-deps --quiet --wheel-dir dist
	$(BIN)/python scripts/check_wheel.py dist

clean:
	rm -rf $(VENV) .venv-oldest dist build out docs/_build

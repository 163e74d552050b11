# Every target works on a bare machine with Python 3.11, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.installed

.PHONY: demo test lint format docs clean

demo: $(DEV)
	$(BIN)/selfrepair demo

test: $(DEV)
	$(BIN)/pytest --numprocesses auto --dist worksteal

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
	rm -rf $(VENV) build *.egg-info

# torch goes first and by its pin, so that no other package's range pulls a build for a GPU that is not here.
$(DEV): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ingest,app,dev,docs]'
	touch $@

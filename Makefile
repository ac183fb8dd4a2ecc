# `make demo` and `make test` on a machine with Python 3.11 and pip. `make docs` builds the site, and
# runs the gallery, into docs/_build/html; a warning is an error.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# scikit-learn's contract with another version of it: `make contract SKLEARN=1.6.1`.
SKLEARN ?= 1.6.1
OTHER = .venv-sklearn-$(SKLEARN)

.PHONY: demo test coverage lint docs contract

demo: $(VENV)/.installed
	$(BIN)/python -m alignlearn demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2

coverage: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --cov=alignlearn --cov-report=term-missing:skip-covered

contract: $(OTHER)/.installed
	$(OTHER)/bin/python -m pytest tests/test_estimator_checks.py tests/test_callbacks.py \
		tests/test_containers.py tests/test_model_selection.py tests/test_scoring.py

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(OTHER)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OTHER)
	grep -v scikit-learn constraints.txt > $(OTHER)/constraints.txt
	$(OTHER)/bin/python -m pip install --quiet --constraint $(OTHER)/constraints.txt \
		--editable '.[test]' scikit-learn==$(SKLEARN)
	touch $@

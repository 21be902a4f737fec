# make demo   the whole life cycle in the built-in world, offline, in a few minutes
# make test   the tests
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-all check format demo-models clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	@touch $@

demo: install
	$(BIN)/heed demo

test: install
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Train the two instruct models that the wheel carries, and write their checksums.
demo-models: install
	$(BIN)/python -m heedful.demo.build

clean:
	rm -rf .venv build dist runs

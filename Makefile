# make demo   the whole life cycle in the built-in world, offline, in a few minutes
# make test   the tests: WORKERS=2 at a time
# make bench  heedful beside its peers: ROW=ppo|reward|dpo|grpo|encoder-decoder|all SIZE=full|part|smoke REPEATS=3
PYTHON ?= python3
BIN := .venv/bin
ROW ?= all
SIZE ?= full
REPEATS ?= 3
# How many tests run side by side; each takes one core and up to 2 GiB.
WORKERS ?= 2

.PHONY: install demo test test-all check format lock audit demo-models bench bench-curves bench-gpu clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make a virtual environment: Python 3.11 or later with its venv module is needed." \
		"On Debian: sudo apt install python3 python3-venv. Then make again, or name another Python with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	@touch $@

demo: install
	$(BIN)/heed demo

test: install
	$(BIN)/python -m pytest -m "not slow and not gpu" --numprocesses $(WORKERS) --dist worksteal

test-all: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What the image of the labelling app installs, with the hash of every file: label.lock, made anew when constraints.txt changes.
lock: install
	echo setuptools | $(BIN)/uv pip compile pyproject.toml - --extra label --extra postgres --constraint constraints.txt --upgrade \
		--python-version 3.13 --python-platform x86_64-unknown-linux-gnu --generate-hashes --annotation-style line \
		--custom-compile-command 'make lock' --quiet --output-file label.lock

# Whether anything in the image is known to be vulnerable. It asks a database on the network, so make check leaves it out; what could
# not be looked up fails, too.
audit: install
	$(BIN)/uv tool run --python $(BIN)/python pip-audit==2.10.1 --strict --require-hashes --disable-pip --requirement label.lock

# Train the two instruct models that the wheel carries, and write their checksums.
demo-models: install
	$(BIN)/python -m heedful.demo.build

# The same work on TRL, in environments of its own (1.5 GB each, made when first needed), and on heedful. An interrupted row goes on
# where it stopped. SIZE=part REPEATS=1 is the quick look.
bench: install
	@$(BIN)/python -m benchmarks.peers $(ROW) --size $(SIZE) --repeats $(REPEATS)

# How time and memory grow; drawn in docs/benchmarks.
bench-curves: install
	@$(BIN)/python -m benchmarks.curves

# Needs a card, a CUDA build of torch and, for the comparison, trl 1.16.0 beside heedful.
bench-gpu: install
	@$(BIN)/python -m benchmarks.gpu

clean:
	rm -rf .venv build dist runs

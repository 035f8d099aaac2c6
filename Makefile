# make translate   set up, then train and compare three models on dates
# make finetune    set up, then fine-tune MiniLM for sentiment, next to two baselines
# make test        set up, then every check: lint, format, types, tests
# make test-all    set up, then every check, slow tests included
# make fuzz        set up, then attack: make fuzz CASES=10000 KILLS=100 SEED=0
# make docs        set up, then build the site in docs/_build/html
# make notebook    set up, then write the talk as docs/talk.ipynb

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup translate finetune test test-all fuzz style lint docs notebook clean

setup: $(VENV)/.core

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Installed without build isolation, so that constraints.txt pins the build tools too.
$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP_INSTALL) setuptools wheel
	$(PIP_INSTALL) --no-build-isolation --editable .
	touch $@

$(VENV)/.baselines: $(VENV)/.core
	$(PIP_INSTALL) --no-build-isolation --editable '.[baselines]'
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP_INSTALL) --no-build-isolation --editable '.[test]'
	touch $@

$(VENV)/.lm-eval: $(VENV)/.core
	$(PIP_INSTALL) --no-build-isolation --editable '.[lm-eval]'
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(PIP_INSTALL) --no-build-isolation --editable '.[docs]'
	touch $@

$(VENV)/.notebook: $(VENV)/.core
	$(PIP_INSTALL) --no-build-isolation --editable '.[notebook]'
	touch $@

translate: $(VENV)/.core
	$(BIN)/python -m train.translate

finetune: $(VENV)/.baselines
	$(BIN)/python -m train.finetune

style: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

# One thread a process: two processes share the work of two cores, and types are checked beside them. The tests of a
# file stay together, with what they share; files come in the order of their names, since those with the fewest tests,
# which would be last, take long. -rs says what was skipped, and why.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -q -rs -n 2 --dist loadfile --no-loadscope-reorder
CHECK = $(BIN)/mypy & types=$$!; $(PYTEST) $(1); tests=$$?; wait $$types && exit $$tests

test: style
	$(call CHECK)

test-all: style $(VENV)/.docs $(VENV)/.notebook $(VENV)/.lm-eval
	$(call CHECK,-m '')

CASES ?= 1000
KILLS ?= 10
SEED ?= 0
fuzz: $(VENV)/.test
	PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(BIN)/python -u -m fuzz --cases $(CASES) --kills $(KILLS) --seed $(SEED) \
		$(if $(ONLY),--only "$(ONLY)") $(if $(CASE),--case $(CASE))

docs: $(VENV)/.docs
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W -b html docs docs/_build/html

notebook: $(VENV)/.notebook
	$(BIN)/python docs/notebook.py

clean:
	rm -rf $(VENV) build docs/_build docs/_pictures docs/talk.ipynb *.egg-info

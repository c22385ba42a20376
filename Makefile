# make setup   makes .venv with the locked packages and tfobj itself
# make demo    builds Tetris, trains Slot Attention, scores, draws, exports, decomposes fresh scenes: runs/demo
# make lint    checks format, rules and the counts of .ci/page.py; make format applies what can be applied
# make test    the default tests; make test-slow the long ones; make coverage the default ones with line coverage
# make test-tf220  the default tests on TensorFlow 2.20, the newest that TPU VMs have, in .venv-tf220
# make readme  writes the tables of README.md from results/; make lock writes both requirements*.lock anew

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := runs/demo
# Tracing graphs is most of the tests' work and takes one core: a process for each, no more than four, since each
# grows to several GB. Tests that share traces and exports stay in one process (tests/conftest.py).
TEST := -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadgroup

.PHONY: setup demo lint format test test-slow test-tf220 coverage readme lock

setup: .venv/.ready

.venv/.ready: requirements.lock
.venv-tf220/.ready: requirements-tf220.lock
.venv/.ready .venv-tf220/.ready: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tfobj needs Python 3.11 or newer; found: $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11."; exit 1; }
	@$(PYTHON) -m venv $(@D) || { echo "Python's venv module is incomplete. On Debian: apt-get install python3-venv"; exit 1; }
	$(@D)/bin/python -m pip install --quiet --requirement $(filter %.lock,$^)
	$(@D)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

demo: setup
	$(BIN)/tfds build datasets/tetris
	$(BIN)/python launch/train.py --model=slot_attention --dataset=tetris --preset=quick --workdir=$(DEMO)
	$(BIN)/python launch/evaluate.py --workdir=$(DEMO)
	$(BIN)/python launch/export.py --workdir=$(DEMO) --to=$(DEMO)/saved_model
	$(BIN)/python launch/decompose.py --saved_model=$(DEMO)/saved_model --dataset=tetris --out=$(DEMO)/fresh
	@echo "Look at $(DEMO)/figures/decomposition_test.png, $(DEMO)/report.html and $(DEMO)/fresh."

lint: setup
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/python .ci/page.py

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

test: setup
	$(BIN)/python $(TEST)

coverage: setup
	$(BIN)/python $(TEST) --cov=tfobj --cov=datasets --cov=launch --cov-report=term

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-tf220: .venv-tf220/.ready
	.venv-tf220/bin/python $(TEST)

readme: setup
	$(BIN)/python launch/readme.py

lock:
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip freeze --exclude-editable > requirements.lock
	rm -rf .venv-tf220 && $(PYTHON) -m venv .venv-tf220
	.venv-tf220/bin/python -m pip install --quiet --editable '.[dev]' 'tensorflow==2.20.*' 'tf-keras==2.20.*'
	.venv-tf220/bin/python -m pip freeze --exclude-editable > requirements-tf220.lock
	@touch .venv/.ready .venv-tf220/.ready

# make setup   makes .venv with the locked packages and tfobj itself
# make demo    builds Tetris, trains Slot Attention, scores, draws, exports, decomposes fresh scenes: runs/demo
# make lint    checks format, rules and the counts of .ci/page.py; make format applies what can be applied
# make test    the default tests; make test-slow the long ones; make coverage the default ones with line coverage
# make test-tf220  the default tests on TensorFlow 2.20, the newest that TPU VMs have, in .venv-tf220
# make test-min  the quick rooms of the tests on the lowest versions that setup.cfg allows, in .venv-min
# make readme  writes the tables of README.md from results/; make lock writes all requirements*.lock anew

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := runs/demo
# Tracing graphs is most of the tests' work and takes one core: a process for each, no more than four, since each
# grows to several GB. Tests that share traces and exports stay in one process (tests/conftest.py).
TEST := -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadgroup

# What a version of a library can break without a model being trained; two minutes.
QUICK_ROOMS := tests/data tests/distributions tests/metrics tests/viz tests/serving/test_pictures.py \
    tests/datasets/test_video_files.py tests/nn/test_small_layers.py tests/test_config.py tests/test_package.py

.PHONY: setup demo lint format test test-slow test-tf220 test-min coverage readme lock

setup: .venv/.ready

.venv/.ready: requirements.lock
.venv-tf220/.ready: requirements-tf220.lock
.venv-min/.ready: requirements-min.lock
.venv/.ready .venv-tf220/.ready .venv-min/.ready: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "tfobj needs Python 3.11 or newer; found: $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11."; exit 1; }
	@$(PYTHON) -m venv $(@D) || { echo "Python's venv module is incomplete. On Debian: apt-get install python3-venv"; exit 1; }
	$(@D)/bin/python -m pip install --upgrade 'pip >= 25' 'setuptools >= 77'
	$(@D)/bin/python -m pip install --require-hashes --requirement $(filter %.lock,$^)
	$(@D)/bin/python -m pip install --no-deps --no-build-isolation --editable .
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

test-min: .venv-min/.ready
	.venv-min/bin/python -m pytest $(QUICK_ROOMS)

readme: setup
	$(BIN)/python launch/readme.py

# For every platform and Python that setup.cfg allows, with the hashes of all their files.
COMPILE := .venv-lock/bin/uv pip compile setup.cfg --quiet --universal --python-version=3.11 \
    --generate-hashes --no-header --no-annotate --no-emit-package=tfobj

lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install uv
	$(COMPILE) --extra=dev --upgrade --output-file=requirements.lock
	echo 'tensorflow == 2.20.*' | $(COMPILE) - --extra=dev --upgrade --output-file=requirements-tf220.lock
	$(COMPILE) --extra=test --upgrade --resolution=lowest-direct --output-file=requirements-min.lock

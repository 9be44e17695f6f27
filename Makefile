# Everything runs in .venv, which the first target makes: Python 3.11+ and make are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# where it is set, every start of Python compiles PyTorch anew, and the tests start it often
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-fast test-docs test-browser check format bench notebooks docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("regionclip needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Names are yours to change: make demo CLASSES="umbrella, snowman"
CLASSES ?= icons
demo: $(READY)  ## detect on new generated scenes with the shipped model; leaves demo/detections.png
	$(BIN)/regionclip data icons --output demo/scenes --num-scenes 9 --seed 20261121
	$(BIN)/regionclip detect demo/scenes/images --model icons --classes "$(CLASSES)" --output demo \
		--min-score 0.9 --sheet demo/detections.png --no-resume

test: $(READY)  ## all tests that need no GPU and no downloaded weights (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not docs"

test-fast: $(READY)  ## the tests that take seconds
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not docs"

test-docs: $(READY)  ## run the commands of the documentation, on models and data made small
	$(BIN)/python -m pytest -q -n 2 -m docs

test-browser: $(READY)  ## drive the web demo in Chromium, which must be installed; leaves demo/screenshots
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[browser]'
	@command -v chromium || command -v chromium-browser || { echo "test-browser needs Chromium, as of: apt-get install chromium"; exit 1; }
	REGIONCLIP_SCREENSHOTS=demo/screenshots $(BIN)/python -m pytest -q tests/demo/test_browser.py

check: $(READY)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(READY)  ## format and apply safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)  ## speed, as ratios within one run
	$(BIN)/python -m benchmarks

notebooks: $(READY)  ## run the notebooks; leaves copies with their pictures in runs/notebooks
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[notebooks]'
	$(BIN)/python -m pytest -q notebooks

docs: $(READY)  ## build the documentation site into site/, and test what its links are made of
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rlE '<(script|link|img|iframe|source)[^>]*(src|href)="?(https?:)?//' site --include='*.html' \
		|| { echo "these pages load something from another host"; exit 1; }
	$(BIN)/python -m pytest -q tests/test_docs.py

clean:  ## remove the environment and everything generated
	rm -rf $(VENV) demo site .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# Set-up in one go: any of these makes the virtual environment first, if it is not there.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/shapes_tiny.py

BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train notebooks test lint lock clean help

help:  ## What there is to make
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

train: $(READY)  ## Train CLOOB on the embedded default data and evaluate it
	$(BIN)/python -m cloob_jax.main --config=$(CONFIG)

notebooks: $(READY)  ## Open the notebooks in JupyterLab
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[notebooks]'
	$(BIN)/jupyter lab notebooks

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

lint: $(READY)  ## Check format, style, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(READY)  ## Renew constraints.txt
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--extra tpu --extra cuda --extra notebooks --extra test --extra tfds --extra parquet --extra tokenizers \
		--extra gs --extra s3 --extra hf --extra http --extra wandb \
		--no-header --no-annotate --no-emit-index-url \
		--output-file constraints.txt setup.cfg

clean:  ## Remove the virtual environment
	rm -rf $(VENV)

# pip itself is left alone: what a virtual environment brings is new enough.
$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cloob_jax needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[test]'
	@touch $(READY)

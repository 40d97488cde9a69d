# One command for each thing you do with the kit: `make help` lists them. All of them work from a fresh clone: what is
# missing is set up first, by tools/bootstrap.py, and a second time nothing is done and no network is needed.

ifeq ($(wildcard tools/bootstrap.py),)
$(error Run make in the kit's folder: `cd` there first, or add `-C FOLDER` to the command)
endif

PYTHON ?= python3
PY := .venv/bin/python
NOTEBOOKS := $(PY) tools/notebooks.py
PYTEST := $(PY) -m pytest -n 2
FIND_PYTHON = "$(PYTHON)" -c "" > /dev/null 2>&1 || \
	{ echo "Set-up stopped: there is no working $(PYTHON): install Python 3.11, 3.12 or 3.13, or name it with PYTHON=…"; exit 1; }

# A lesson is called 2.1, and its file begins with 2.01_, so that files sort.
NUMBERS = $(subst .0,.,$(sort $(foreach file,$(wildcard notebooks/*_*.ipynb notebooks/*/*_*.ipynb),$(firstword $(subst _, ,$(notdir $(file)))))))
FILE = $(wildcard notebooks/$(NB)_*.ipynb notebooks/*/$(NB)_*.ipynb notebooks/*/$(subst .,.0,$(NB))_*.ipynb)
PARTS = $(sort $(foreach file,$(wildcard notebooks/*_*.ipynb notebooks/*/*_*.ipynb),$(firstword $(subst _, ,$(subst ., ,$(notdir $(file)))))))
COMMA := ,
SPACE := $(subst ,, )
TEXT = build/text/$(basename $(notdir $(FILE))).py

.DEFAULT_GOAL := help
.PHONY: help setup data lab test check test-course run store stale seeds long student new text cards map links format lint test-colab test-jax test-gpu lock bench clean notebook part parts

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-12s %s\n", $$1, $$2 }'

setup: ## the virtual environment .venv, from the lock (PYTHON=python3.12 chooses the Python)
	@$(FIND_PYTHON)
	@"$(PYTHON)" tools/bootstrap.py

data: setup ## all data, packages of single lessons and pretrained weights, so that nothing needs the network afterwards (200 MB, ten minutes)
	@$(PY) tools/bootstrap.py extra
	@[ -t 2 ] || export TQDM_DISABLE=1; $(PY) -m mmkit prepare

lab: setup ## JupyterLab, open on the first lesson; the data comes meanwhile (LAB_OPTIONS="--no-browser" passes options on)
	@$(PY) tools/lab.py $(LAB_OPTIONS)

check: setup ## the fast tests, under five minutes
	@$(PYTEST) -m "not slow"

test: setup ## the unit tests and every lesson that is stale (BUDGET=20: fails if those take more minutes than that)
	@$(PY) tests/run_lessons.py stale $(if $(BUDGET),--budget=$(BUDGET))

test-course: setup ## every lesson, one (NB=2.1), or those of parts (PART="2 3"); BUDGET=20: what fits into 20 minutes; TWICE=1: each cell twice
	@$(PY) tests/run_lessons.py course $(NB) $(if $(PART),--part $(PART)) $(if $(BUDGET),--budget=$(BUDGET)) $(if $(TWICE),--twice)

run: notebook setup ## one notebook executed into an HTML page: make run NB=2.1
	@$(NOTEBOOKS) run "$(NB)"

stale: setup ## the lessons whose stored outputs may no longer be what they give, each with the reason
	@$(NOTEBOOKS) stale

seeds: setup ## a lesson under seeds 1 to 5, kept in notebooks/records.csv: make seeds NB=2.1, or PART="1 2"
	@$(NOTEBOOKS) seeds $(NB) $(if $(PART),--part $(PART))

long: setup ## a lesson under four times the training, kept in the records: make long NB=2.1, or PART="1 2"
	@$(NOTEBOOKS) long $(NB) $(if $(PART),--part $(PART))

student: setup ## copies of the notebooks without the solutions
	@$(NOTEBOOKS) student

store: $(if $(STALE),,notebook) setup ## one notebook executed and kept with its outputs: make store NB=2.1 (STALE=1: all that are stale)
	@$(NOTEBOOKS) store $(if $(STALE),--stale,"$(NB)")

new: setup ## a notebook begun from the skeleton: make new NB=2.04_fusion_transformer
	@$(NOTEBOOKS) new "$(NB)"

text: notebook setup ## one notebook as text, build/text/….py, to be edited: make text NB=2.1, then make text NB=2.1 BACK=1
	@mkdir -p build/text
	@$(PY) -m jupytext --quiet $(if $(BACK),--update --to ipynb --output $(FILE) $(TEXT),--to py:percent --output $(TEXT) $(FILE))

cards: setup ## the pictures on the data cards, drawn anew
	@$(PY) data/cards.py

map: setup ## notebooks/README.md, and the lessons named in other pages, written anew from the notebooks
	@$(NOTEBOOKS) map

links: setup ## every address and Setup cell's beginning written anew from pyproject.toml (TAG=v1.2.0: for a release)
	@$(NOTEBOOKS) links $(if $(REPOSITORY),--repository "$(REPOSITORY)") $(if $(TAG),--tag "$(TAG)")

format: setup ## code and notebooks formatted (store a lesson after that)
	@$(PY) -m ruff format

lint: setup ## the style of the code and of the notebooks
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(NOTEBOOKS) lint

test-colab: setup ## the fast tests and two notebooks with Colab's versions (Python 3.13, or PYTHON313=…)
	@$(PY) tests/colab/run.py

test-jax: setup ## the tests of layers and losses on Keras's JAX backend (OPTIONS="-k Gated" goes to pytest)
	@$(PY) tests/on_jax/run.py $(OPTIONS)

test-gpu: ## where there is a GPU, with JAX and PyTorch: the layers on it, and a step (first OPTIONS=--fetch where there is a network)
	@$(FIND_PYTHON)
	@"$(PYTHON)" tests/on_jax/gpu.py $(OPTIONS)

lock: setup ## requirements.lock, environment.yml and the locks of Colab, JAX and the benchmarks brought up to date with pyproject.toml
	@$(PY) tools/lock.py

bench: part setup ## the benchmarks, against PyTorch, about 20 minutes (PART=a one part of a to e, OPTIONS=--quick a trial)
	@"$(PYTHON)" tools/bootstrap.py bench
	@.venv-bench/bin/python -m benchmarks $(OPTIONS) $(PART)

clean: ## all that set-up and tests made, but not the downloaded data
	rm -rf .venv .venv.* .venv-* build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

notebook: # fails early, before anything is set up, when NB names no notebook
	@[ -n "$(FILE)" ] || { echo "There is no lesson NB=$(NB): choose one of $(NUMBERS)"; exit 1; }

parts: ## the numbers of the parts that have lessons, as JSON: a workflow runs one job for each
	@echo '[$(subst $(SPACE),$(COMMA) ,$(PARTS))]'

part: # fails early, before anything is set up, when PART names no part of the benchmarks
	@$(FIND_PYTHON)
	@"$(PYTHON)" -m benchmarks.parts $(PART)

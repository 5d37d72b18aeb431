# Everything a learner or a maintainer runs. The work is done in tools/, in Python.

PYTHON := $(shell command -v python3 || command -v python3.13 || command -v python3.12 || command -v python3.11)
VENV_PYTHON := .venv/bin/python

.PHONY: help lab app test test-colab test-lowest notebooks clean setup

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/make \1 -/p' Makefile

lab: setup  ## open the course in JupyterLab
	@$(VENV_PYTHON) -m tools.start_lab

app: setup  ## show the memory analyzer as a page
	@$(VENV_PYTHON) -m tools.start_app

test: setup  ## lint, notebooks, unit and property tests, timing, browser
	@$(VENV_PYTHON) -m tools.run_tests

test-colab: setup  ## the notebooks with Colab's Python and packages, fetched as on Colab (Python 3.12, 6 GB)
	@$(VENV_PYTHON) -m tools.test_colab

test-lowest: setup  ## notebooks and tests with the lowest versions in pyproject.toml (Python 3.11, 6 GB)
	@$(VENV_PYTHON) -m tools.test_lowest

notebooks: setup  ## execute all notebooks and store their outputs
	@$(VENV_PYTHON) -m tools.notebooks

clean:  ## remove the environments and all caches
	rm -rf .venv .venv-* .hypothesis .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

setup:
	@$(if $(PYTHON),,$(error No python3 found. Install Python 3.11, 3.12 or 3.13 from https://www.python.org/downloads))
	@$(PYTHON) tools/setup_env.py

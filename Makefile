# Every target sets up all it needs in .venv first; a second run installs nothing (tools/setup.sh).
SHELL := bash
BIN := .venv/bin
PARALLEL := -n logical --maxprocesses 4 --dist worksteal
# Slow tests run in pairs, file by file, the longest first (tests/conftest.py); on one GPU one after the other, for two engines would
# not share its memory. Three at a time were no faster on two cores, and broke a limit of time.
PAIRED := $(if $(shell command -v nvidia-smi),,-n logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder)

# Python keeps its compiled files, whatever the shell says: without them every worker of the tests
# and each of their child processes compiles everything again, a fifth of all that the tests take.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help bench setup demo demo-real reproductions test test-long test-durability test-fast check docs doctor clean clean-all

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv ready
	@tools/setup.sh

demo: setup ## seven guarded rounds of self-distillation on a small real model, the same unguarded, one report of both
	@$(BIN)/ouroloop run demo --fresh || [ $$? -eq 3 ]
	@$(BIN)/ouroloop run unguarded --fresh
	@$(BIN)/ouroloop report demo unguarded
	@echo "Open the page above in a browser; \`$(BIN)/ouroloop ui\` shows the runs in MLflow."

# Word problems written by people, from their published file: docs/real-data.md.
demo-real: export OUROLOOP_DATA ?= $(abspath ../shared/data)
demo-real: setup ## the same story on SmolLM2, a real language model of 135 million parameters
	@$(BIN)/ouroloop run demo_real --fresh || [ $$? -eq 3 ]
	@$(BIN)/ouroloop report demo_real
	@echo "Open the page above in a browser."

reproductions: setup ## every run that the committed results of runs/experiments lack, SmolLM2's among them: days; resumable
	@$(BIN)/ouroloop study $(sort $(dir $(wildcard runs/experiments/*/study.*))) --jobs 2

test: setup ## every test that this machine can run: the fast ones first, then those on the real libraries
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" $(PARALLEL)
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "slow and not long" $(PAIRED)

test-long: setup ## the tests that take minutes each; those on SmolLM2 once `make demo-real` has fetched it
	@$(BIN)/pytest -q -m long

test-durability: setup ## every fault on purpose, hundreds of kills among them: an hour, resumable (SEED=0 ONLY="...")
	@$(BIN)/python tests/durability/run.py --seed $(or $(SEED),0) --write $(if $(ONLY),--only $(ONLY))

# On an idle machine: wall clock times are compared.
bench: setup ## the project beside what it is made of, A B A B, into BENCHMARKS.md: an hour (QUICK=1: minutes; MILLION=1)
	@$(BIN)/python -m tools.bench --write $(if $(QUICK),--quick) $(if $(MILLION),--million)

test-fast: setup ## only the fast tests
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" $(PARALLEL)

check: setup ## lint, format, types, and the form of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy -p ouroloop -p runs.experiments
	@$(BIN)/python tools/form.py --check

docs: setup ## the documentation site, into site/: a warning fails it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open site/index.html in a browser; \`$(BIN)/python -m http.server -d site\` serves it with its search."

doctor: setup ## what is installed, what would break, and how to repair it
	@$(BIN)/ouroloop doctor

clean: ## remove caches; runs and .venv stay
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

clean-all: clean ## remove .venv too
	rm -rf .venv

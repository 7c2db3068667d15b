# The front door. Each target does the set-up it needs.
PYTHON := .venv/bin/python
export PYTHONUNBUFFERED = 1

.PHONY: help env demo test quick lint bed soak bench clean

help:
	@echo "make demo    decode EEG from a small study made here, with a report to look at (a minute after set-up)"
	@echo "make test    all that CI runs, the tests on a real Slurm included"
	@echo "make quick   lint and the tests without processes, under a minute"
	@echo "make soak    twenty random faults on a real Slurm, and whether the run ends the same (ten minutes)"
	@echo "make bench   the figures we claim, beside those of the peers"

env:
	@env/setup.sh cpu --extras test

demo: env
	$(PYTHON) -m hpc.launch pipeline configs/demo.yaml --on local

# Three at a time, also on two cores: what runs on a Slurm waits more than it works
test: env bed lint
	$(PYTHON) -m pytest -n 3 --dist loadfile --no-loadscope-reorder

quick: env lint
	$(PYTHON) -m pytest -n 2 -m "not ranks and not slurm and not docs"

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# Without Slurm its tests are skipped, and say so; with REQUIRE_SLURM=1 that is a failure
bed:
	@env/bed install || { [ "$(REQUIRE_SLURM)" != 1 ] && echo "so the tests marked slurm will be skipped"; }

# Not in CI: twenty faults drawn at random, at random times, on a real Slurm of this machine. Ten minutes
soak: env
	@env/bed install
	eval "$$(env/bed start)" && trap 'env/bed stop' EXIT && export OMP_NUM_THREADS=1 && \
	$(PYTHON) -m hpc.launch pipeline configs/drill.yaml --on local && \
	$(PYTHON) -m hpc.launch drill train configs/drill.yaml --nodes 2 --ranks 1 --on bed --hang 15s --repeat $(or $(N),20)

bench: env
	$(PYTHON) -m bench

clean:
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .import_linter_cache *.egg-info

# The front door. Each target does the set-up it needs, and no more: `make demo` after `make test` takes nothing away.
# PYTHON=python3.12 VENV=.venv-3.12 on the line: another interpreter, in an environment of its own.
VENV ?= .venv
python := $(VENV)/bin/python
export PYTHONUNBUFFERED = 1

.PHONY: help env env-test env-dev env-docs demo docs test test-slow quick quick-each lint wheel bed soak fuzz bench reference release clean

help:
	@echo "make demo        decode EEG from a small study made here, with a report to look at (a minute after set-up)"
	@echo "make test        all that CI runs, the tests on a real Slurm included"
	@echo "make test-slow   the same with the further members of large families of tests, as a scheduled CI runs them"
	@echo "make quick       lint and the tests without processes, under a minute"
	@echo "make quick-each  the same on each of Python 3.11, 3.12 and 3.13 that is here"
	@echo "make lint        ruff, mypy and the layers"
	@echo "make docs        the documentation as a site, in docs/_build/html; its notebooks are computed (a minute after the demo)"
	@echo "make wheel       what pip installs elsewhere, in dist/"
	@echo "make env         the environment of the demo, in .venv; make env-test: that of the tests; make env-dev: the linters' and build; make env-docs: Sphinx"
	@echo "make bed         Slurm's packages, for the tests that need one (root on Debian or Ubuntu)"
	@echo "make soak        twenty random faults on a real Slurm, and whether the run ends the same (ten minutes); LIKE=strict: on an unkind one"
	@echo "make fuzz        3000 damaged and hostile files of every format, and what becomes of each; N=20000 for more"
	@echo "make bench       the figures we claim, beside those of the peers"
	@echo "make reference   docs/reference, from the code"
	@echo "make release     whether this commit may be released: a checklist, from versions to the demo of the wheel (an hour; ONLY=version,notes)"
	@echo "make clean       removes .venv and caches"

env:
	@env/setup.sh cpu --venv $(VENV)

env-test:
	@env/setup.sh cpu --venv $(VENV) --extras test,dev

env-dev:
	@env/setup.sh cpu --venv $(VENV) --extras dev

env-docs:
	@env/setup.sh cpu --venv $(VENV) --extras docs

demo: env
	$(python) -m hpc.launch pipeline configs/demo.yaml --on local

tests := $(python) -m pytest -n 6 --dist loadfile --no-loadscope-reorder --other-slurm auto --durations 20

# Six at a time, also on two cores: what runs on a Slurm waits more than it works. Where there is a Slurm, what hangs most
# on its version runs on a second one too (env/bed, 22.05 and 24.11)
test: env-test bed lint
	$(tests)

# Not in CI at each commit: of large families of tests the members marked slow, too
test-slow: env-test bed lint
	$(tests) --slow

quick: env-test lint
	$(python) -m pytest -n 2 -m "not ranks and not slurm and not docs"

quick-each:
	@env/each-python quick

lint: env-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Offline. Any warning is an error; a notebook that raises is one
docs: env-docs
	$(python) -m sphinx -W --keep-going -b html docs docs/_build/html

wheel: env-dev
	$(python) -m build --no-isolation --quiet
	@echo "elsewhere: pip install -c env/constraints-cpu.txt $$(ls -t dist/*.whl | head -1)"

# Without Slurm its tests are skipped, and say so; with REQUIRE_SLURM=1 that is a failure
bed:
	@env/bed install || { [ "$(REQUIRE_SLURM)" != 1 ] && echo "so the tests marked slurm will be skipped"; }

# Not in CI: twenty faults drawn at random, at random times, on a real Slurm of this machine. Ten minutes; LIKE=strict: on one
# as unkind as a cluster's, twenty
soak: env
	@env/bed install
	eval "$$(env/bed start $(if $(LIKE),--like $(LIKE)))" && trap 'env/bed stop' EXIT && export OMP_NUM_THREADS=1 && \
	$(python) -m hpc.launch pipeline configs/drill.yaml --on local && \
	$(python) -m hpc.launch drill train configs/drill.yaml --nodes 2 --ranks 1 --on bed --hang 15s --repeat $(or $(N),20)

# In CI there are a dozen files of each format: tests/fuzz/test_fuzz.py
fuzz: env-test
	$(python) -m tests.fuzz $(or $(N),3000)

bench: env-test
	$(python) -m bench

# One page a stage, from what the code says of its settings
reference: env
	for stage in $$($(python) -c "from hpc.config import stages; print(*stages.names())"); do \
	  $(python) -m hpc.launch settings $$stage -o docs/reference/$$stage.md || exit; done

# Uploads nothing and tags nothing. `env/release.py --list` says what it looks at
release: env-dev
	$(python) env/release.py $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf docs/_build docs/_extra docs/notebooks $(VENV) .ruff_cache .mypy_cache .pytest_cache .import_linter_cache build dist *.egg-info

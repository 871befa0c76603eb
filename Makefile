# Every target builds the environment it needs, once: python3 with pip is all that has to be there.
#   make demo         the main job: eight schools with an energy, written to demo/
#   make test         the tests, without the slow ones
#   make test-all     every test
#   make lint         ruff and pyright
#   make docs         the guide, the tutorials with their results, and the reference, written to build/docs
#   make bench        side by side with other libraries, in an environment of its own; OPTIONS="--only blr" and others
#   make bench-log-z  the same for log Z

PYTHON ?= python3
PIP = -m pip --disable-pip-version-check --quiet --quiet install --constraint constraints.txt

# One thread a process: two on a busy machine are slower than one, and results repeat exactly.
demo test test-all docs: export OMP_NUM_THREADS = 1
# Progress bars of a notebook would need widgets, which pages do not have.
docs: export PYTHONWARNINGS = ignore:IProgress not found

.PHONY: demo test test-all lint docs bench bench-log-z
.DELETE_ON_ERROR:

demo: .venv/ready
	@.venv/bin/python -m pyro_ebm demo

test: .venv/ready
	@.venv/bin/python -m pytest -q -n 2 --dist worksteal -m "not slow"

test-all: .venv/ready
	@.venv/bin/python -m pytest -q -n 2 --dist worksteal

lint: .venv/ready
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/pyright --pythonpath .venv/bin/python

# The tutorials are run, which takes some minutes; those that have not changed are not run again.
docs: .venv-docs/ready
	@rm -rf build/docs-source && mkdir -p build && cp -r docs build/docs-source
	@mkdir -p build/docs-source/tutorials && cp tutorials/*.py build/docs-source/tutorials
	@.venv-docs/bin/sphinx-build -W --keep-going --quiet -b html build/docs-source build/docs
	@echo "The pages are in build/docs/index.html"

bench: .venv-bench/ready
	@.venv-bench/bin/python -m benchmarks.run $(OPTIONS)

bench-log-z: .venv-bench/ready
	@.venv-bench/bin/python -m benchmarks.log_z

.venv/ready: GROUP = dev
.venv-docs/ready: GROUP = docs
.venv-bench/ready: GROUP = bench

# The stamp goes before anything is installed and comes back last. An environment without one was
# interrupted, and is built afresh; one whose stamp is merely old is brought up to date.
.venv/ready .venv-docs/ready .venv-bench/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"pyro_ebm needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Name another: make PYTHON=python3.11")'
	@echo "Installing into $(@D) (some minutes the first time) ..."
	@if [ -e $@ ]; then rm -f $@; else rm -rf $(@D) && $(PYTHON) -m venv $(@D); fi
	@$(@D)/bin/python $(PIP) 'pip>=25.1'
	@$(@D)/bin/python $(PIP) --group $(GROUP) --editable '.[all]'
	@touch $@

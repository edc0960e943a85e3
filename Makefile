# make quickstart   train a small SSM on rendered faces; leaves out/quickstart.html and out/quickstart.json
# make test         every notebook of nbs/ and tutorials/, then tests/
# make lab          the notebooks in JupyterLab
# make export       notebooks -> ssm_nb/ and README.md
# make pictures     draw the figures of the notebooks for viewers without scripts; needs a Chromium or Chrome
# make clean        strip the notebooks of what does not belong into git
PYTHON ?= python3
BIN := "$(CURDIR)/.venv/bin"
quickstart test: export PLOTLY_RENDERER = plotly_mimetype
# with glibc, large blocks go back to the system instead of fragmenting the heap over a training run
quickstart test: export MALLOC_MMAP_THRESHOLD_ = 8388608
unexport PYTHONDONTWRITEBYTECODE # pip is told not to compile all it installs; Python then does so at the first import of a module

# IPython runs a notebook live in the terminal; fastprogress, imported first, then draws bars for a terminal
run_live = cd $(dir $(1)) && $(BIN)/python -c 'import sys, fastprogress, IPython; IPython.start_ipython(sys.argv[1:])' --no-term-title $(notdir $(1))

.PHONY: quickstart test lab export clean pictures

quickstart: .venv/installed
	$(call run_live,tutorials/01_quickstart.ipynb)

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/nbdev-test --do-print --timing
	$(BIN)/python .ci/notebooks.py tutorials
	$(BIN)/python -m pytest tests

lab: .venv/installed
	$(BIN)/jupyter lab

export: .venv/installed
	$(BIN)/nbdev-export
	$(BIN)/jupyter nbconvert --to markdown --log-level WARN --output-dir . --output README nbs/index.ipynb

pictures: .venv/installed
	$(BIN)/python .ci/notebooks.py pictures

clean: .venv/installed
	$(BIN)/python .ci/notebooks.py clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -e '.[dev]'
	touch $@

## The course on variational autoencoders. Targets:
##
##   make serve     build the book and serve it on this machine (no TensorFlow needed)
##   make lab       open the chapters in JupyterLab, to run and change them
##   make test      prove everything: helpers, pages in a real browser, every notebook
##
##   make book      build the HTML only, into _build/html
##   make execute   run the notebooks and store their outputs; one only: NB=book/05_vae.ipynb
##   make renew     give the stored live figures today's runtime and style, without running a notebook
##   make bench     measure speed, quality beside others, and size; in part: BENCH="--only pages"
##   make lock      resolve requirements.lock again from pyproject.toml
##   make newest    run the tests with the newest versions that pyproject.toml allows; changes requirements.lock
##   make links     follow every link that leaves the book
##   make repository URL=https://github.com/OWNER/NAME    give the course another address, everywhere
##   make clean     remove what was built, and .venv
##
## Another Python than python3: make serve PYTHON=/path/to/python

PYTHON ?= python3
NB     ?= $(wildcard book/*.ipynb)

BIN   := .venv/bin
PAGES := _config.yml _toc.yml $(shell find book -type f -not -path '*/.*' -not -name '*.pyc')
LOCK  := uv pip compile --universal --all-extras --python-version 3.11 pyproject.toml -o requirements.lock

# Without compiled modules each of the many Python processes would compile TensorFlow's source again: seven seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help serve lab test book execute renew bench lock newest links repository clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

serve: book
	@$(BIN)/python tools/serve.py _build/html

lab: .venv/.all
	@$(BIN)/jupyter lab --notebook-dir=book

test: .venv/.all book
	$(BIN)/python -m pytest tests -n 2 --dist worksteal
	PYTHONPATH="$(CURDIR)/tests/offline" $(BIN)/python -m pytest --nbval --nbval-current-env --nbval-sanitize-with=tests/sanitize.cfg --nbval-cell-timeout=900 book

book: _build/.built

execute: .venv/.all
	@$(BIN)/python tools/execute.py $(NB)

renew: .venv/.all
	@$(BIN)/python tools/renew.py $(NB)

bench: .venv/.all book
	@$(BIN)/python -m benchmarks $(BENCH)

lock: .venv/.all
	@PATH="$$PATH:$(BIN)"; command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv; $(LOCK) --quiet $(UPGRADE)

newest:
	@$(MAKE) lock UPGRADE=--upgrade
	@$(MAKE) test

links: .venv/.pages
	@$(BIN)/jupyter-book build . --builder linkcheck --path-output _build/links

repository:
	@$(PYTHON) tools/repository.py "$(URL)"

clean:
	rm -rf _build .venv *.egg-info

# The environment, in two sizes: enough to build the pages, and all. A changed lock installs again.
.venv/.pages: pyproject.toml requirements.lock tools/install.py
	@$(PYTHON) tools/install.py pages
	@touch $@

.venv/.all: pyproject.toml requirements.lock tools/install.py
	@$(PYTHON) tools/install.py all
	@touch .venv/.pages $@

# The pages. Warnings are errors: a broken reference, citation or formula stops here.
_build/.built: .venv/.pages $(PAGES)
	@echo "Building the pages ..."
	@rm -rf _build/html    # or what an earlier build has left shows in the pages
	@$(BIN)/jupyter-book build . --all -W -n --keep-going -q >/dev/null
	@touch $@

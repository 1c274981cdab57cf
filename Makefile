# Two commands do everything: `make demo` and `make test`. Both make .venv first, from the committed lock.
BIN := .venv/bin

.PHONY: demo test test-slow check check-types check-style check-imports check-words lock clean
.DELETE_ON_ERROR:

demo: .venv/.made
	$(BIN)/babelscale study run quickstart

# Two processes, a file of tests at a time; docs/decisions/2026-11-tests-in-two-processes.md says why.
test: .venv/.made
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.made
	$(BIN)/python -m pytest -m "slow or not slow"

# The types take longest; `make -j2 check` checks the rest beside them.
check: check-types check-style check-imports check-words

check-types: .venv/.made
	$(BIN)/basedpyright

check-style: .venv/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-imports: .venv/.made
	$(BIN)/lint-imports

check-words: .venv/.made
	$(BIN)/python tools/scan.py

.venv/.made: requirements/lock.txt pyproject.toml tools/environment.sh
	sh tools/environment.sh
	touch $@

# For maintainers: resolve the lock anew (needs uv).
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-header \
	  --extra lab --group dev -c requirements/constraints.txt pyproject.toml -o requirements/lock.txt

clean:
	rm -rf .venv studies

# The two commands of the README are `make demo` and `make test`; each does all the set-up it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(wildcard libs/*) $(wildcard services/*) clients/python

.PHONY: demo test check chromium chaos benchmark contracts pins clean

demo: $(VENV)/installed
	$(BIN)/python -m tallyho.demo $(URL)

test: $(VENV)/installed check chromium
	$(BIN)/pytest

check: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(foreach package,$(PACKAGES),$(package)/src)
	$(BIN)/mypy tests
	$(BIN)/mypy benchmarks

# A long campaign: `make chaos FAULTS=1000`, and `make chaos FAULTS=… SEED=…` to see a failing run again.
FAULTS := 500
chaos: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m chaos --faults $(FAULTS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

# Takes about half an hour on an idle machine: `make benchmark PART=throughput` for less.
benchmark: $(VENV)/installed
	$(BIN)/python -m benchmarks.ingest $(PART)

# The pages are tested in a real browser where one can be had; elsewhere those tests are skipped and say so.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no chromium: the browser tests will be skipped"

contracts: $(VENV)/installed
	$(BIN)/python -m tallyho_contracts write

pins: $(VENV)/installed
	$(BIN)/python requirements/compile.py

$(VENV)/installed: requirements/dev.txt $(wildcard */*/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		$(foreach package,$(PACKAGES),-e $(package))
	touch $@

clean:
	rm -rf $(VENV)

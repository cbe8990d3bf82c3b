# The two commands of the README are `make demo` and `make test`; each does all the set-up it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(wildcard libs/*) $(wildcard services/*) clients/python

.PHONY: demo test check chromium promtool shells sbom audit chaos benchmark contracts pins alerts users policies test-matrix clean

demo: $(VENV)/installed
	$(BIN)/python -m tallyho.demo $(if $(URL),"$(URL)")

# Two at a time, since they mostly wait; each has a broker and a database of its own.
test: $(VENV)/installed check chromium promtool shells
	$(BIN)/pytest -n 2 --dist loadfile

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

# The shells that `tallyho completion` writes for, besides bash.
shells:
	@for shell in fish zsh; do command -v $$shell >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$shell >/dev/null; } \
		|| echo "no $$shell: its completion will not be tested"; done

# Prometheus' own tool tests the alerts. Taken out of the distribution's package, which would install a server, too.
promtool: $(VENV)/installed
	@command -v promtool >/dev/null || test -x $(BIN)/promtool || { folder=$$(mktemp -d) && ( cd $$folder \
		&& { apt-get download -qq prometheus || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get download -qq prometheus; }; } \
		&& dpkg -x prometheus_*.deb . && mv usr/bin/promtool $(CURDIR)/$(BIN)/ ) >/dev/null 2>&1; \
		status=$$?; rm -rf $$folder; test $$status = 0; } \
		|| echo "no promtool: the tests of the alerts will be skipped"

# What each deployed service consists of, in CycloneDX: sbom/<service>.json.
SERVICES := crawler job-tracker ws-gateway
sbom: $(VENV)/audit/installed
	mkdir -p sbom
	for service in $(SERVICES); do \
		$(VENV)/audit/bin/cyclonedx-py requirements requirements/$$service.txt --pyproject services/$$service/pyproject.toml \
			--output-reproducible --of JSON --output-file sbom/$$service.json || exit 1; \
	done

# Known vulnerabilities of what is deployed. Fails when there are any; says so when the advisories can't be reached.
audit: $(VENV)/audit/installed
	$(VENV)/audit/bin/python requirements/audit.py $(foreach service,$(SERVICES),requirements/$(service).txt) requirements/traces.txt

$(VENV)/audit/installed: requirements/audit.txt $(VENV)/installed
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/audit.txt
	touch $@

# Needs a Docker engine that has these images or can pull them.
RABBITMQ_IMAGES ?= rabbitmq:3.10-management rabbitmq:4-management
POSTGRES_IMAGES ?= postgres:15 postgres:18
MATRIX_TESTS ?= tests/integration tests/e2e tests/model
test-matrix: $(VENV)/installed
	for broker in $(RABBITMQ_IMAGES); do for database in $(POSTGRES_IMAGES); do \
		echo "== $$broker $$database"; \
		RABBITMQ_IMAGE=$$broker POSTGRES_IMAGE=$$database $(BIN)/pytest $(MATRIX_TESTS) || exit 1; \
	done; done

# A linter that knows other rules than our own checks. deploy/kubernetes/checkov.yaml explains what it need not find.
policies: $(VENV)/installed
	$(PYTHON) -m venv $(VENV)/policies
	$(VENV)/policies/bin/pip install --quiet --disable-pip-version-check -r requirements/policies.txt
	for overlay in local production; do \
		$(BIN)/kubectl kustomize deploy/kubernetes/overlays/$$overlay > $(VENV)/policies/$$overlay.yaml && \
		$(VENV)/policies/bin/checkov --config-file deploy/kubernetes/checkov.yaml --file $(VENV)/policies/$$overlay.yaml \
		|| exit 1; \
	done

alerts: $(VENV)/installed
	$(BIN)/python deploy/kubernetes/components/monitoring/write_rules.py

users: $(VENV)/installed
	$(BIN)/python deploy/kubernetes/components/rabbitmq/write_users.py

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

# `make demo` and `make test` set up all they need on a machine that has Python 3.11 or newer, pip and make.
# Each environment is rebuilt when its hash-locked requirements change; nothing is installed outside this folder.
PYTHON ?= python3
BIN := .venv/bin
# Tools whose pins clash with the project's own live in environments of their own.
EMULATOR := .tools/emulator
SAM := .tools/sam
CHECKOV := .tools/checkov
AUDIT := .tools/audit
BENCH_TOOLS := .tools/bench

export AWS_DEFAULT_REGION ?= eu-west-2
export SAM_CLI_TELEMETRY := 0

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps
FROM_LOCK := $(PIP_INSTALL) --require-hashes -r

.DEFAULT_GOAL := help
.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.ready: requirements/dev.txt pyproject.toml
	@echo "setting up .venv (once, about a minute)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python $(FROM_LOCK) requirements/dev.txt
	@$(BIN)/python $(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

.tools/%/.ready: requirements/%.txt
	@echo "setting up .tools/$* (once, up to a minute)"
	@$(PYTHON) -m venv --clear .tools/$*
	@.tools/$*/bin/python $(FROM_LOCK) $<
	@touch $@

.PHONY: setup
setup: .venv/.ready $(EMULATOR)/.ready $(SAM)/.ready ## install everything that the other targets need

# DEMO="--events mine.jsonl --config dir/": your own events; DEMO="--svg docs/demo.svg": write the picture in README.md.
.PHONY: demo
demo: setup ## run the real thing here: some hundred events, good and bad, through an API that misbehaves
	@$(BIN)/python -m sandbox demo $(DEMO)

.PHONY: recordings
recordings: setup ## the pictures of the terminal in docs/command.md
	@$(BIN)/python -m sandbox.recordings

# One worker more than there are cores, because many tests wait. One file of tests goes to one worker: what its tests
# share is set up once.
SIDE_BY_SIDE := -n $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)') --dist loadfile
SLOW := tests/chaos tests/hostile tests/sam_local tests/simulation/test_bites.py tests/simulation/test_outage_curve.py

.PHONY: test
test: setup ## run the tests, unit to end to end, and some hundred simulated runs (three minutes)
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(addprefix --ignore=,$(SLOW)) $(TEST)

# They use all cores by themselves.
.PHONY: simulate
simulate: setup ## thousands of runs in which everything goes wrong, on a virtual clock
	@$(BIN)/pytest tests/simulation --seeds=2000

.PHONY: slow test-chaos test-hostile
slow: setup simulate ## the tests that `make test` leaves out: hostile input, chaos, sam local, thousands of simulated runs
	@$(MAKE) --no-print-directory -j 2 test-chaos test-hostile

# Not by xdist: a storm is set up once for all tests of it.
test-chaos:
	@$(BIN)/pytest -q tests/chaos

test-hostile:
	@$(BIN)/pytest -q tests/hostile tests/sam_local

# HOURS=8; it ends at the first run that goes wrong, and says how to replay it.
.PHONY: soak
soak: setup ## the same for a night, with seeds that no other day has
	@$(BIN)/python -m tests.simulation --soak $(or $(HOURS),8)

.PHONY: bench
bench: setup $(BENCH_TOOLS)/.ready ## measure it beside what people would use instead (ten minutes, on a quiet machine)
	@$(BIN)/python -m bench $(BENCH)

.PHONY: chaos
chaos: setup ## ten thousand messages through everything that can go wrong; CHAOS_MESSAGES=, CHAOS_SEED=
	@$(BIN)/pytest tests/chaos
	@$(BIN)/python -m tests.chaos

# Asks the package index for known vulnerabilities, so that it is no part of `make check`, which must give the same answer
# tomorrow for the same tree.
.PHONY: audit
audit: $(AUDIT)/.ready ## known vulnerabilities of what ships
	@$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip -r src/requirements.txt

.PHONY: sbom
sbom: $(AUDIT)/.ready ## what ships, as a CycloneDX bill of materials: build/sbom.json
	@mkdir -p build
	@$(AUDIT)/bin/cyclonedx-py requirements src/requirements.txt --pyproject pyproject.toml --output-reproducible -o build/sbom.json

.PHONY: sam-local
sam-local: setup ## SAM's own commands for real, in Docker (as root on Debian it installs what is missing)
	@sandbox/sam_local/prepare
	@$(BIN)/pytest -m docker tests/sam_local

.PHONY: check
check: TEST = --cov --ignore=tests/simulation
check: lint validate locks secrets test slow ## everything that CI runs

.PHONY: lint
lint: .venv/.ready ## lint, format and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

.PHONY: format
format: .venv/.ready ## put the code into the project's format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: validate
validate: .venv/.ready $(SAM)/.ready $(CHECKOV)/.ready ## the template, by SAM, cfn-lint and checkov
	@$(SAM)/bin/sam validate --lint
	@$(BIN)/cfn-lint
	@$(CHECKOV)/bin/checkov -f template.yaml --framework cloudformation --skip-download --compact --quiet

.PHONY: build
build: $(SAM)/.ready ## sam build
	@$(SAM)/bin/sam build
	@find .aws-sam/build -name '*.cpython-313.pyc' | grep -q . || \
	  echo "WARNING: no python3.13 was found, so the artefact has no byte code and every cold start compiles it again" >&2

# BUCKET=name: where the artefact is uploaded; packaged.yaml then deploys without a build.
.PHONY: package
package: build ## sam package: upload the artefact to BUCKET, write packaged.yaml
	@test -n "$(BUCKET)" || { echo "make package BUCKET=name: the S3 bucket for the artefact is missing" >&2; exit 2; }
	@$(SAM)/bin/sam package --no-resolve-s3 --s3-bucket "$(BUCKET)" --output-template-file packaged.yaml

# A pin in a lock is kept while it satisfies pyproject.toml; delete the file to have everything brought up to date.
COMPILE := $(abspath $(BIN))/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
.PHONY: lock
lock: .venv/.ready ## bring the locks up to pyproject.toml
	@$(MAKE) --no-print-directory compile DIR=.

.PHONY: compile
compile:
	@cd $(DIR) && $(COMPILE) --group function -o src/requirements.txt
	@cd $(DIR) && $(COMPILE) -c src/requirements.txt pyproject.toml --group dev -o requirements/dev.txt
	@cd $(DIR) && $(COMPILE) --group emulator -o requirements/emulator.txt
	@cd $(DIR) && $(COMPILE) --group sam -o requirements/sam.txt
	@cd $(DIR) && $(COMPILE) --group checkov -o requirements/checkov.txt
	@cd $(DIR) && $(COMPILE) --group audit -o requirements/audit.txt
	@cd $(DIR) && $(COMPILE) --group bench -o requirements/bench.txt

.PHONY: locks
locks: .venv/.ready ## see that the locks are what pyproject.toml asks for
	@rm -rf build/locks && mkdir -p build/locks/src
	@cp -r pyproject.toml requirements build/locks && cp src/requirements.txt build/locks/src
	@$(MAKE) --no-print-directory compile DIR=build/locks
	@diff -r requirements build/locks/requirements && diff src/requirements.txt build/locks/src/requirements.txt

# Left out: what takes every test's made-up secret, every Thrive id or checksum, and every ARN of a queue for a real one;
# the made-up ids and signatures in events/ and in the examples of mappings, and the hashes of locks.
NOT_SOUGHT := KeywordDetector HexHighEntropyString TelegramBotTokenDetector
.PHONY: secrets
secrets: .venv/.ready ## see that no secret is in the tree
	@git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --exclude-files '^events/|^mappings/.*/examples/|requirements.*\.txt$$|package-lock\.json$$' \
	  $(addprefix --disable-plugin ,$(NOT_SOUGHT))

.PHONY: clean
clean: ## remove all that was built or installed here
	@rm -rf .venv .tools .aws-sam build .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

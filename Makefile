# `make demo` and `make test` set up all they need on a machine that has Python 3.11 or newer, pip and make.
# Each environment is rebuilt when its hash-locked requirements change; nothing is installed outside this folder.
PYTHON ?= python3
BIN := .venv/bin
# Tools whose pins clash with the project's own live in environments of their own.
EMULATOR := .tools/emulator
SAM := .tools/sam

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
	@echo "setting up .tools/$* (once)"
	@$(PYTHON) -m venv --clear .tools/$*
	@.tools/$*/bin/python $(FROM_LOCK) $<
	@touch $@

.PHONY: setup
setup: .venv/.ready $(EMULATOR)/.ready $(SAM)/.ready ## install everything that the other targets need

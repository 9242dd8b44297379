# `make` tells what there is. Every target sets up what it needs; a machine needs Python 3.11 or newer, and make.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo drill up down status logs test lint lint-deploy locks-current bench docs lock e2e compose-up compose-down clean

UV_VERSION := 0.13.8
UV := $(or $(shell command -v uv),.uv/bin/uv)
RUN := PYTHONPATH="$(CURDIR)" .venv/bin/python
READY := .venv/.synced
COMPILE := pip compile --quiet --python-version 3.11 --no-emit-index-url --no-header
LOCKS := requirements requirements-steps requirements-api requirements-dev requirements-spark

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## retrain and roll out, twice, then attack until the page is received; SOURCE=<parquet path or glob>, ONLY=retrain
	@$(RUN) -m include.local.demo $(if $(SOURCE),--source '$(SOURCE)') $(if $(ONLY),--only '$(ONLY)')

drill: $(READY) ## attack the local service until the admin's page is in the inbox; FULL=1: with the real five minutes
	@$(RUN) -m include.local.demo --only drill $(if $(FULL),--full)

up: $(READY) ## start Airflow, MLflow, the model API, Kafka, the scorer, PostgreSQL, Redis and the monitoring on this machine
	@$(RUN) -m include.local.up

down: $(READY) ## stop them; their data stays in build/local
	@$(RUN) -m include.local.down

status: $(READY) ## what of them runs
	@$(RUN) -m include.local.status

logs: $(READY) ## the last lines of their logs; NAME=airflow
	@$(RUN) -m include.local.logs $(NAME)

test: $(READY) ## all tests that need no cluster: units, DAGs, real local servers
	$(RUN) -m pytest -n 2 --dist loadfile -m "not alone" --ignore=tests/e2e
	$(RUN) -m pytest -m alone --ignore=tests/e2e

lint: $(READY) locks-current ## style, types, lock files, generated docs
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	$(RUN) -m include.pipeline.docs --check

lint-deploy: $(READY) ## charts, manifests, workflows, Terraform, rules, images; NAME=<check> for one; docs/gitops.md
	@$(RUN) -m deploy.lint $(if $(STRICT),--strict) $(NAME)

bench: $(READY) ## all benchmarks, or NAME=features
	@$(RUN) -m bench $(NAME)

docs: $(READY) ## write the page about the DAGs from the DAGs
	$(RUN) -m include.pipeline.docs

lock: | $(UV) ## choose versions anew where requirements*.in changed
	for name in $(LOCKS); do $(UV) $(COMPILE) $$name.in -o $$name.txt || exit 1; done

e2e: $(READY) ## tests on a Kubernetes cluster; KUBECONFIG=<its file> E2E_LOAD_IMAGE=<kind, k3d, minikube or a command>
	@if [[ -z "$$KUBECONFIG" ]]; then \
		echo "KUBECONFIG is not set: name the kubeconfig of a cluster that the tests may fill and empty" >&2; exit 2; fi
	$(RUN) -m pytest --timeout 2400 tests/e2e/platform
	$(RUN) -m pytest --timeout 1800 tests/e2e --ignore=tests/e2e/platform

compose-up: ## the whole stack in containers (docker compose), healthy when this ends: docs/compose.md
	deploy/compose/make-secrets
	COMMIT=$$(git rev-parse HEAD) docker compose up --build --detach --wait --wait-timeout 1200

compose-down: ## stop the containers; the data stays in volumes (docker compose down --volumes removes it as well)
	docker compose down

clean: ## stop everything, remove build/ and caches; .venv stays
	@if [[ -x .venv/bin/python ]]; then $(RUN) -m include.local.down; fi
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./.uv -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A lock file is current when compiling it again, starting from itself, changes nothing.
locks-current: | $(UV)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for name in $(LOCKS); do \
		cp $$name.txt "$$folder"; \
		if ! $(UV) $(COMPILE) $$name.in -o "$$folder/$$name.txt" > /dev/null 2> "$$folder/said"; then \
			if grep -Eq 'error sending request|dns error|[Cc]onnect' "$$folder/said"; then \
				echo "lock files not checked: the package index is not reachable"; exit 0; fi; \
			cat "$$folder/said" >&2; exit 1; \
		fi; \
		diff -u $$name.txt "$$folder/$$name.txt" || { \
			echo "$$name.txt does not follow from $$name.in: run 'make lock' and commit the result" >&2; exit 1; }; \
	done; echo "lock files are current"

$(READY): requirements.txt requirements-dev.txt | $(UV)
	[[ -x .venv/bin/python ]] || $(UV) venv --quiet --python "$$(command -v python3)" .venv
	$(UV) pip sync --quiet --python .venv/bin/python requirements.txt requirements-dev.txt
	@touch $@

.uv/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed as python3 (found: $$(python3 --version 2>&1)); on Debian 12 or" \
			"Ubuntu 24.04: apt-get install python3 python3-venv" >&2; exit 1; }
	@python3 -c 'import ensurepip, venv' || { \
		echo "python3 has no venv: on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	python3 -m venv .uv
	.uv/bin/pip install --quiet uv==$(UV_VERSION)

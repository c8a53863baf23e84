# Everything is a target; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUBS := services/genaug/v1
# Each Job is a process that imports torch: without bytecode that takes three times as long, here and in every test.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

$(BIN)/genaug: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[all,dev]'
	touch $@

.PHONY: setup
setup: $(BIN)/genaug ## Make .venv with everything in it (kept if it is there)

.PHONY: quickstart
quickstart: setup ## Run the six steps on scikit-learn's digits; leaves quickstart-report.html
	$(BIN)/genaug run create -f examples/quickstart.yaml --report quickstart-report.html

.PHONY: test
test: setup ## Unit, chart (skipped without helm) and integration tests
	@# One thread: on arrays this small several wait for each other longer than they compute.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 tests/unit
	$(BIN)/python -m pytest tests/chart tests/integration

.PHONY: test-integration
test-integration: setup ## Only the tests that start real servers
	$(BIN)/python -m pytest tests/integration

.PHONY: test-e2e
test-e2e: setup ## The chart on the cluster of the current kubeconfig context: install, run, kill, upgrade (needs helm, kubectl, images)
	$(BIN)/python -m pytest tests/e2e

.PHONY: lint
lint: setup ## ruff, mypy (strict), import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: lint-proto
lint-proto: ## buf lint, from npm
	npx --yes @bufbuild/buf@1.75.0 lint

.PHONY: bench
bench: setup ## Measure each step beside its simplest alternative, and runs that are killed beside one left alone
	$(BIN)/python benchmarks/training_data.py
	$(BIN)/python benchmarks/matching.py
	$(BIN)/python benchmarks/assembly.py
	$(BIN)/python benchmarks/comparison.py
	$(BIN)/python benchmarks/kill_single.py examples/quickstart.yaml --kills 20
	$(BIN)/python benchmarks/kill.py examples/quickstart.yaml --kills 10

.PHONY: bench-data
bench-data: setup ## Near-duplicates among 10,000 and 100,000 made images; memory of decoders on hostile files
	$(BIN)/python benchmarks/duplicates.py --made 10000 100000
	$(BIN)/python benchmarks/decode_memory.py

.PHONY: bench-serving
bench-serving: setup ## Label, embed, match and train beside the simplest way; a TorchServe under kills and overload (needs Java)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/serving.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/matching.py
	$(BIN)/python benchmarks/model_server.py

.PHONY: bench-diffusion
bench-diffusion: setup ## Fine-tune and draw with a base of Stable Diffusion's shape, beside diffusers' own pipeline
	PYTHONPATH=. OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/diffusion.py

# Names of the images: $(IMAGES)-generation:$(TAG), and so on.
IMAGES ?= genaug
TAG ?= $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' services/genaug/__init__.py)
DOCKER ?= docker

.PHONY: images
images: ## Build the images with Docker: one per service, jobs, model-server, minio
	for service in generation labeling selection assembly orchestrator jobs model-server; do \
	  $(DOCKER) build -f docker/Dockerfile --build-arg SERVICE=$$service --build-arg REVISION=$$(git describe --always --dirty --abbrev=12) \
	    -t $(IMAGES)-$$service:$(TAG) . ; \
	done
	$(DOCKER) build -f docker/minio.Dockerfile -t $(IMAGES)-minio:$(TAG) .

.PHONY: up
up: images ## All services, MinIO and Postgres with Docker, at localhost:50051 (GENAUG_AUTH__TOKEN is the token)
	TAG=$(TAG) $(DOCKER) compose -f docker/compose.yaml up --detach --wait

.PHONY: chart
chart: setup ## Write what follows from the chart and the settings: its schema, its README, k8s/genaug.yaml, k8s/examples (needs helm)
	$(BIN)/python helm/document.py helm/genaug
	helm template --kube-version 1.33.0 genaug helm/genaug --namespace genaug --values k8s/values.yaml > k8s/genaug.yaml
	$(BIN)/python helm/evaluation_job.py k8s

.PHONY: format
format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generator's protobuf is older than the runtime's, so it has an environment of its own.
.venv-proto/bin/python:
	$(PYTHON) -m venv .venv-proto
	.venv-proto/bin/pip install --quiet grpcio-tools==1.81.1

.PHONY: proto
proto: .venv-proto/bin/python ## Generate the stubs (committed; leaves no diff)
	find $(STUBS) -name '*_pb2*' -delete
	.venv-proto/bin/python -m grpc_tools.protoc -Iprotos --python_out=services --pyi_out=services protos/genaug/v1/*.proto
	.venv-proto/bin/python -m grpc_tools.protoc -Iprotos --grpc_python_out=services protos/genaug/v1/*_service.proto

.PHONY: clean
clean: ## Remove what was built here (not your data)
	rm -rf build dist *.egg-info services/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache quickstart-report.html

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | while IFS=$$'\t' read -r t d; do printf '  %-18s %s\n' "$$t" "$$d"; done

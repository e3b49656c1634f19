# make help says what there is. Settings are make or environment variables: make e2e STACK=kyverno-1.19 FOCUS=core/restore
SHELL := /bin/bash
BIN   := build/bin

export STACK IMAGES POLICY S3_ENDPOINT FOCUS LABELS PROCS KEEP ARTIFACTS
export KUBE_CONTEXT KUBECONFIG ALLOW_CLUSTER BASE_SECRET_FROM PLAN

.DEFAULT_GOAL := help
.PHONY: help e2e check check-policies known-bad test unit vet lint vulncheck up down list images prebuild matrix soak cells table promises report rerun diff compare bench prune clean build

help: build ## this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nSettings (make or environment variables):\n\n'
	@$(BIN)/smart-restore settings

e2e: build ## from nothing to a verdict: kind, Kyverno, VolSync, S3, the policy, the specs
	@$(BIN)/smart-restore e2e

check: build ## what can be found about POLICY without a cluster, by Kyverno's own engine, in seconds
	@$(BIN)/smart-restore check

check-policies: build ## check all that ships, and see policies known to be bad be caught
	@$(BIN)/smart-restore check --record policies/checked.txt $(patsubst %/,%,$(wildcard policies/*/))
	@$(BIN)/smart-restore check --known-bad
	@$(BIN)/smart-restore check --simulator

known-bad: build ## the suite's own test: policies known to be bad are caught (NAMES="a b": only these)
	@$(BIN)/smart-restore known-bad $(NAMES)

matrix: build ## run the cells of fixtures/matrix.yaml, and put them into a table (CELLS="a b", EVENT=push: only these)
	@$(BIN)/smart-restore matrix run $(if $(EVENT),--event $(EVENT)) $(CELLS)

RUNS ?= 20

soak: build ## run the selected specs RUNS times, each on a stack of its own: which did not always pass (RUNS=20; SERIES=folder to go on with an earlier one)
	@$(BIN)/smart-restore soak --runs $(RUNS) $(if $(SERIES),--series "$(SERIES)")

# For a workflow: the matrix as JSON, and a table of reports.
cells:
	@go run ./harness/cmd/smart-restore matrix --format json $(if $(EVENT),--event $(EVENT))

table: ## a table of reports, cell by requirement (REPORTS="a/report.yaml b/report.yaml"; WRITE=README.md: into it)
	@go run ./harness/cmd/smart-restore matrix table $(if $(WRITE),--write $(WRITE)) $(REPORTS)

promises: build ## what policies/ promise, requirement by requirement: the table in policies/README.md made anew
	@$(BIN)/smart-restore promises --write policies/README.md $(patsubst %/,%,$(wildcard policies/*/))

test: vet unit lint ## unit tests, vet and lint; needs no Docker and no cluster

# The specs need a stand: they are make e2e's.
unit:
	go test -race $$(go list ./... | grep -v /e2e$$)

vet:
	go vet ./...

# Each linter is pinned in a module of its own, so that its dependencies stay out of ours.
lint:
	go tool -modfile=scripts/lint.mod golangci-lint run
	go tool -modfile=scripts/actionlint.mod actionlint -shellcheck= -pyflakes= $(wildcard .github/workflows/*.yml)

vulncheck: ## known vulnerabilities in what we import; needs the Go vulnerability database
	go tool -modfile=scripts/lint.mod govulncheck ./...

up: build ## put a stack up and keep it, for work on policies and specs
	@$(BIN)/smart-restore up

down: build ## remove the kept stack
	@$(BIN)/smart-restore down

list: build ## the specs with their requirements, without running them
	@$(BIN)/smart-restore list

images: build ## what the stack consists of, and where each piece would come from
	@$(BIN)/smart-restore images

prebuild: build ## build a stack's images for later; needs no engine (STACKS="a b": those)
	@$(BIN)/smart-restore prebuild $(STACKS)

REPORT ?= artifacts/latest

report: build ## read a run's report back and render its page anew (REPORT=artifacts/latest)
	@$(BIN)/smart-restore report $(REPORT)

rerun: build ## run exactly what failed or was unknown (REPORT=artifacts/latest)
	@$(BIN)/smart-restore rerun $(REPORT)

diff: build ## the decisions of two policies side by side (BASE=folder CANDIDATE=folder)
	@$(BIN)/smart-restore diff $(if $(MARKDOWN),--markdown) $(BASE) $(CANDIDATE)

# A base that fails, or is not there yet, is no reason not to look at the candidate; what counts is the candidate's verdict.
compare: build ## e2e of two policies, then their decisions side by side (BASE_POLICY=folder POLICY=folder)
	@if [[ -e "$(BASE_POLICY)" ]]; then POLICY="$(BASE_POLICY)" ARTIFACTS=artifacts/base $(BIN)/smart-restore e2e || true; \
	else echo "there is no BASE_POLICY=$(BASE_POLICY): nothing to compare with"; fi
	@status=0; ARTIFACTS=artifacts/candidate $(BIN)/smart-restore e2e || status=$$?; \
	if [[ -e artifacts/base/latest/report.yaml && -e artifacts/candidate/latest/report.yaml ]]; then \
	  $(BIN)/smart-restore diff artifacts/base/latest artifacts/candidate/latest || [[ $$? == 1 ]]; fi; exit $$status

bench: build ## the phases' times of the last run, beside its longest spec
	@$(BIN)/smart-restore bench

prune: build ## remove the images that no stack is made of: earlier versions of them
	@$(BIN)/smart-restore prune

clean: build ## remove the kept stack, everything built, and our own engine's data
	@$(BIN)/smart-restore clean
	rm -rf build artifacts

# -v names each package as it is compiled: the first time takes minutes.
build:
	@mkdir -p $(BIN)
	@go build -v -o $(BIN)/ ./harness/cmd/smart-restore github.com/onsi/ginkgo/v2/ginkgo
	@go test -vet=off -c -o $(BIN)/e2e.test ./e2e

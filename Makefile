# make help lists the commands and settings. Settings are make or environment variables:
#
#   make e2e STACK=kyverno-1.19 FOCUS=core/restore
SHELL := /bin/bash
BIN   := build/bin

SETTINGS := STACK IMAGES POLICY S3_ENDPOINT UPGRADES_FROM FOCUS LABELS PROCS KEEP TIME_SCALE ARTIFACTS
SETTINGS += KUBE_CONTEXT KUBECONFIG ALLOW_CLUSTER BASE_SECRET_FROM PLAN
export $(SETTINGS)

# A misspelt setting is refused: make check PLOICY=mine would check the default policy. Beside settings, make takes variables of single
# targets, and of the tools that it calls.
OF_TARGETS := FOR SEED REPLAY HISTORIES SINCE HTML NAMES ROWS EVENT CELLS RUNS SERIES WRITE REPORTS REPORT REQUIREMENT STACKS MARKDOWN BASE CANDIDATE BASE_POLICY
OF_TOOLS := BIN SHELL PATH HOME TMPDIR CC CXX GO% CGO% DOCKER% SMART_RESTORE_% %_PROXY %_proxy MAKE% -%
GIVEN := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(v)))),$(v)))
UNKNOWN := $(strip $(filter-out $(SETTINGS) $(OF_TARGETS) $(OF_TOOLS),$(GIVEN)))
$(if $(UNKNOWN),$(error there is no setting $(UNKNOWN): make help lists all))
$(if $(and $(filter STACKS,$(GIVEN)),$(filter-out prebuild,$(MAKECMDGOALS))),$(error STACKS is for make prebuild, which takes several: set STACK))

.DEFAULT_GOAL := help
.PHONY: help e2e check explore explore-calibrate mutants check-policies gallery known-bad blind test unit vet lint vulncheck up down list explain images prebuild matrix soak cells table promises docs report history rerun diff compare bench prune clean build

help: ## list the commands and settings
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nSettings (make or environment variables):\n\n'
	@sed -n 's/^#| //p' $(MAKEFILE_LIST)

e2e: build ## test POLICY on a new cluster: kind, Kyverno, VolSync, S3, the policy, the specs (REPLAY=file: a history of make explore's, instead of the specs)
	@$(BIN)/smart-restore e2e $(if $(REPLAY),--replay "$(REPLAY)")

check: build ## check POLICY without a cluster, with Kyverno's own engine, in seconds
	@$(BIN)/smart-restore check

check-policies: build ## check all that ships, and see policies known to be bad be caught
	@$(BIN)/smart-restore check --record policies/checked.txt $(sort $(patsubst %/,%,$(wildcard policies/*/)))
	@$(BIN)/smart-restore check --known-bad
	@$(BIN)/smart-restore check --simulator

gallery: build ## check the setups of fixtures/gallery, in seconds: the shapes that people have
	@$(BIN)/smart-restore gallery $(sort $(patsubst %/,%,$(wildcard fixtures/gallery/*/)))

FOR ?= 60s

explore: build ## play random histories with POLICY without a cluster, and say in which one data are lost (FOR=60s; SEED=number; REPLAY=file plays that one)
	@$(BIN)/smart-restore explore --for "$(FOR)" --seed "$(SEED)" --replay "$(REPLAY)"

explore-calibrate: build ## test the model of make explore: recorded histories are played on a cluster, and compared event by event (HISTORIES="a.yaml b.yaml": only these)
	@$(BIN)/smart-restore explore-calibrate $(HISTORIES)

mutants: build ## change POLICY in one thing at a time, and list the changes that no requirement catches (SINCE=origin/main: only of lines that changed since then; HTML=file: a page of what protects each line)
	@$(BIN)/smart-restore mutants $(if $(SINCE),--changed-since "$(SINCE)") $(if $(HTML),--html "$(HTML)")

known-bad: build ## the suite's own test: policies known to be bad are caught (NAMES="a b": only these)
	@$(BIN)/smart-restore known-bad $(NAMES)

blind: build ## test the suite: its own senses are broken, one at a time, and no verdict may be wrong (ROWS="a b": only these)
	@$(BIN)/smart-restore blind $(ROWS)

matrix: build ## run the cells of fixtures/matrix.yaml and write a table of them (only some: CELLS="a b" or EVENT=push)
	@$(BIN)/smart-restore matrix run $(if $(EVENT),--event $(EVENT)) $(CELLS)

RUNS ?= 20

soak: build ## run the selected specs RUNS times, each time on a new stack, and list those that did not always pass (RUNS=20; SERIES=folder continues an earlier series)
	@$(BIN)/smart-restore soak --runs $(RUNS) $(if $(SERIES),--series "$(SERIES)")

# For a workflow: the matrix as JSON, and a table of reports.
cells:
	@go run ./harness/cmd/smart-restore matrix --format json $(if $(EVENT),--event $(EVENT))

table: ## write a table of reports, cell by requirement (REPORTS="a/report.yaml b/report.yaml"; WRITE=README.md writes it into that file)
	@go run ./harness/cmd/smart-restore matrix table $(if $(WRITE),--write $(WRITE)) $(REPORTS)

promises: build ## what policies/ promise, requirement by requirement: the table in policies/README.md made anew
	@$(BIN)/smart-restore promises --write policies/README.md $(sort $(patsubst %/,%,$(wildcard policies/*/)))

docs: promises ## write the generated tables of README.md, CONTRIBUTING.md and policies/
	@$(BIN)/smart-restore gallery --write policies/BRING-YOUR-OWN.md $(sort $(patsubst %/,%,$(wildcard fixtures/gallery/*/)))
	@$(BIN)/smart-restore docs README.md CONTRIBUTING.md $(wildcard policies/*.md policies/*/*.md)

test: vet unit lint ## run unit tests, vet and lint; needs no Docker and no cluster

# The specs need a stack: make e2e runs them.
unit:
	go test -race $$(go list ./... | grep -v /e2e$$)

vet:
	go vet ./...

# Each linter is pinned in a module of its own, so that its dependencies stay out of ours.
lint:
	go tool -modfile=scripts/lint.mod golangci-lint run
	go tool -modfile=scripts/actionlint.mod actionlint -shellcheck= -pyflakes= $(wildcard .github/workflows/*.yml)

vulncheck: ## look for known vulnerabilities in the code that is imported; needs the Go vulnerability database
	go tool -modfile=scripts/lint.mod govulncheck ./...

up: build ## start a stack and keep it, to work on policies and specs
	@$(BIN)/smart-restore up

down: build ## remove the kept stack
	@$(BIN)/smart-restore down

list: build ## list the specs with their requirements
	@$(BIN)/smart-restore list

explain: build ## say what a requirement proves, how, what it costs, and what a failure usually means (REQUIREMENT=core/restore)
	@$(BIN)/smart-restore explain "$(or $(REQUIREMENT),$(error which one? REQUIREMENT=core/restore; make list shows all))"

images: build ## list the stack's images: cached, would be pulled or would be built, and from what
	@$(BIN)/smart-restore images

prebuild: build ## build a stack's images for later; needs no engine (STACKS="a b"; default: STACK)
	@$(BIN)/smart-restore prebuild $(STACKS)

REPORT ?= artifacts/latest

report: build ## print a run's report and write its page again (REPORT=artifacts/latest)
	@$(BIN)/smart-restore report "$(REPORT)"

history: build ## put the runs below a folder on one page: requirement by run, since when each fails, flakes, the slowest (REPORTS=artifacts)
	@$(BIN)/smart-restore history "$(or $(REPORTS),artifacts)"

rerun: build ## run the specs that failed or were unknown in a run (REPORT=artifacts/latest)
	@$(BIN)/smart-restore rerun "$(REPORT)"

diff: build ## compare the decisions of two policies (BASE=folder CANDIDATE=folder)
	@$(BIN)/smart-restore diff $(if $(MARKDOWN),--markdown) $(if $(BASE),"$(BASE)") $(if $(CANDIDATE),"$(CANDIDATE)")

compare: build ## e2e of two policies, then their decisions side by side; exits as POLICY's run does (BASE_POLICY=folder POLICY=folder)
	@$(BIN)/smart-restore compare --base "$(BASE_POLICY)"

bench: build ## print how long each phase of the last run took, and its longest spec
	@$(BIN)/smart-restore bench

prune: build ## remove the images that no stack uses any more
	@$(BIN)/smart-restore prune

clean: build ## remove the kept stack, everything built, and the data of the managed engine
	@$(BIN)/smart-restore clean
	rm -rf build artifacts

build:
	@scripts/build $(BIN)

# What make help says of the settings, from harness/settings: go test ./harness -run Makefile -update
#|   STACK            the stack to test on, a name in fixtures/stacks.yaml (default: its defaultStack, or else the first stack that the policy supports)
#|   IMAGES           where images come from: auto (the cache, else a registry by digest, else a build), pull, or build (contacts no registry) (default: auto)
#|   POLICY           the policy to test: a manifest, a folder of manifests, a kustomization, or a conformance.yaml that lists them (default: policies/smart-restore)
#|   S3_ENDPOINT      the S3 address that the policy uses; it is served only inside the test network (default: s3.endpoint in conformance.yaml)
#|   UPGRADES_FROM    the policy that POLICY replaces, such as its last commit in another work tree (default: upgradesFrom in conformance.yaml)
#|   FOCUS            run only the specs whose ID or sentence matches this regular expression, such as core/restore
#|   LABELS           run only the specs that match this Ginkgo label filter, such as 'core && !s3-down'
#|   PROCS            how many specs run in parallel (default: 3 per CPU, at least 4, at most 8)
#|   KEEP             when to keep the stack after the run: never, failure, or always (default: never)
#|   TIME_SCALE       a factor for all time limits and windows of the specs, from 1 to 10, for a slow machine (default: 1)
#|   ARTIFACTS        the folder for the artifacts of runs: reports, logs, events, audit log and dumps, in a folder per run (default: artifacts)
#|   KUBE_CONTEXT     the kubeconfig context of an existing cluster to test on, instead of a new kind cluster
#|   KUBECONFIG       the kubeconfig file that has KUBE_CONTEXT (default: as kubectl finds it)
#|   ALLOW_CLUSTER    with KUBE_CONTEXT, required: the cluster name of that context in the kubeconfig, to confirm that this is the right cluster
#|   BASE_SECRET_FROM with KUBE_CONTEXT: namespace/name of the Secret that holds the credentials for S3 and restic
#|   PLAN             with KUBE_CONTEXT: 1 prints what a run would create there, and exits

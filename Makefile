# The README's one command is `make test`: it sets up what it needs and runs every test.

PACKHOUSE_VENV ?= $(CURDIR)/.venv
export PACKHOUSE_VENV

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 10s
CRASHROUNDS ?= 30
TRIALS      ?= 20000
SKIPPED     := $(CURDIR)/bin/skipped.txt

.DEFAULT_GOAL := help
.NOTPARALLEL: # the tests need what `clients` installs, and the machine to themselves
.PHONY: help build test skipped check unit exhaustive e2e clients peers bench profile screenshots fuzz crash trials changelog man packages image clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## compile ./bin/packhouse
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.release=$(VERSION)' -o bin/packhouse ./cmd/packhouse

test: ## set up everything and run all tests: checks, unit with race detector, end to end
	@scripts/test.sh CRASHROUNDS=$(CRASHROUNDS)

skipped:
	@if [ -s $(SKIPPED) ]; then \
		echo; echo "######## NOT TESTED on this machine: ########"; cat $(SKIPPED); \
		echo "#############################################"; \
	else echo "everything was tested, nothing was skipped"; fi

check: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l .) || exit 1; \
		[ -z "$$unformatted" ] || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go vet -tags e2e ./e2e/...
	GOARCH=arm64 go vet ./...
	GOARCH=arm go vet ./...
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags e2e ./e2e/...

# Tests of properties and faults sync thousands of times, which says nothing about a disk: they use memory when
# there is some. What needs a real disk is end to end.
MEMORY := $(shell df -P --block-size=M /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 + 0 >= 2048 {print "TMPDIR=/dev/shm GOTMPDIR=/tmp"}')

# They are begun in this order: else a processor is idle in the end, while the other tests the package that takes longest.
LONGEST := ./cmd/packhouse ./repo ./api/vger ./api/vger/vykartest ./index ./compact ./bench

unit: ## unit tests, once, with the race detector
	$(MEMORY) go test -race -timeout 30m $(LONGEST) ./...

exhaustive: ## unit tests, also those cases of which `make unit` takes a share; without the race detector
	PACKHOUSE_EXHAUSTIVE=1 $(MEMORY) go test -count=1 -timeout 60m ./...

# The skips of a machine without real clients are collected and shown at the end of `make test`.
# PACKHOUSE_STRICT=1 (set by .ci/run) makes each of them a failure.
e2e: ## end-to-end tests with the real clients that are installed
	@mkdir -p bin && : >$(SKIPPED)
	CGO_ENABLED=0 PACKHOUSE_SKIPPED=$(SKIPPED) go test -tags e2e -count=1 -timeout 60m ./e2e/... -crash.rounds=$(CRASHROUNDS)

clients: ## install BorgBackup 2, borgstore, restic, Pebble, nginx, Caddy, Chromium, rpm and buildah for the end-to-end tests
	@scripts/install-clients.sh || [ -z "$$PACKHOUSE_STRICT" ]

peers: ## build the servers of others that `make bench` measures beside ours
	@scripts/install-peers.sh || [ -z "$$PACKHOUSE_STRICT" ]

# vykar-server has to be installed by hand: it is measured where it is on the search path, or where VYKAR_SERVER says.
VYKAR_SERVER ?= vykar-server

bench: build clients peers ## measure this server, a bare one and those of others; BENCHFLAGS=--quick for a look
	@peers=; \
	for peer in borgstore=$(PACKHOUSE_VENV)/bin/borgstore-server-rest rest-server=$(CURDIR)/bin/rest-server \
		vykar=$$(command -v "$(VYKAR_SERVER)"); do \
		[ ! -x "$${peer#*=}" ] || peers="$$peers --peer $$peer"; \
	done; \
	bin/packhouse bench store $$peers $(BENCHFLAGS)

profile: build ## profile small puts and gets of our servers; the tops are in bin/profile/profile.txt
	@scripts/profile.sh bin/packhouse bin/profile

fuzz: ## every fuzz target for FUZZTIME (default 10s)
	@scripts/fuzz.sh $(FUZZTIME)

crash: ## many rounds of kill -9 under load, CRASHROUNDS of them
	go test -tags e2e -count=1 -timeout 24h -run 'TestCrash$$' -v ./e2e -crash.rounds=$(CRASHROUNDS)

trials: ## interrupted compactions drawn by seed, TRIALS of them
	$(MEMORY) go test -timeout 24h -run 'TestCompactionCutAnywhere$$' -v ./api/vger/vykartest -args -trials $(TRIALS)

screenshots: ## make the pictures in docs/ of the pages for people anew, in a real browser
	PACKHOUSE_SCREENSHOTS=$(CURDIR)/docs go test -tags e2e -count=1 -run 'TestScreenshots$$' ./e2e

changelog: ## show what the next release will say; VERSION=1.0.0 writes it into CHANGELOG.md
	@command -v towncrier >/dev/null || { echo "towncrier is missing: pip install towncrier" >&2; exit 1; }
	@towncrier build $(if $(filter command line,$(origin VERSION)),--yes --version $(VERSION),--draft --version unreleased)

man: build ## write the manual pages to ./bin/man
	bin/packhouse man bin/man

packages: ## build the release archives, deb and rpm of all architectures into ./dist; ARCHITECTURES=amd64 for one
	@scripts/packages.sh dist

image: ## build the container image with buildah, or BUILDER=podman or docker
	@scripts/image.sh

clean: ## remove what the other targets made
	rm -rf bin dist .venv
	go clean -testcache

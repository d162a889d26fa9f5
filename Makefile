# `make` alone lists the targets. What is built goes to bin/ and dist/, what is
# fetched for that to .cache/; no target writes elsewhere but to Go's own caches.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:

# 1.2.3 at the tag v1.2.3, 1.2.3+4.g0123abc four commits later, 0.0.0+4.g0123abc without a tag.
VERSION ?= $(or $(shell .ci/version 2>/dev/null),0.0.0)
FUZZTIME ?= 30s
IMAGE ?= nagaya:latest
BASE ?= nginx:stable
ARCHES := amd64 arm64
DIST := dist
KINDS := deb rpm
COUNT ?= 1
LINES ?= 43776

STATICCHECK := .cache/bin/staticcheck-0.8.2
GOFUMPT := .cache/bin/gofumpt-0.12.0
NFPM := .cache/bin/nfpm-2.45.0
ACTIONLINT := .cache/bin/actionlint-1.7.12
PEBBLE := .cache/bin/pebble-2.10.3
CHALLTESTSRV := .cache/bin/pebble-challtestsrv-2.10.3
CYCLONEDX := .cache/bin/cyclonedx-gomod-1.10.0

# Lint and the binaries are compiled the same way, so that the cache serves both:
# the EC2 SDK alone takes more than a minute.
export CGO_ENABLED := 0
STATIC := -trimpath

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into bin/, static and stripped.
	go build $(STATIC) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/nagaya ./cmd/nagaya-sim ./cmd/nagaya-sim/household

# The packages whose tests take longest begin first, so that none of them ends alone. They mostly wait, for Docker, nginx
# and clocks: twice as many at a time as there are processors keep these busy.
LONGEST := ./cmd/nagaya-sim/stage ./cmd/nagaya-sim/box ./nginx/apply ./agent/certs/order ./agent/address/claim ./agent/certs ./cmd/nagaya ./nginx
JOBS ?= $(shell expr 2 \* $$(nproc))

# These compute for minutes and start no goroutine, as agent/layout_test.go checks: the race detector would find nothing, six times slower.
COMPUTING := ./agent/rehearsal ./agent/credit ./agent/gate

.PHONY: test
test: prepare browser $(NFPM) $(PEBBLE) $(CHALLTESTSRV) ## Everything: lint, then all tests, with the race detector where goroutines are, two real nginx and Docker.
	@$(MAKE) --no-print-directory -j2 -Oline debian computing
	CI=1 CGO_ENABLED=1 .ci/with-docker go test -race -timeout 60m -p $(JOBS) -parallel $(JOBS) $(LONGEST) $$(go list ./... | grep -vxF "$$(go list $(COMPUTING))")

# The systems of Debian that tests run on are fetched, for the most part, while others compute.
.PHONY: debian
debian:
	@.ci/debian-tar >/dev/null
	@.ci/debian-tools >/dev/null
	@.ci/box-tar >/dev/null
	@.ci/sid-nginx >/dev/null

.PHONY: computing
computing: lint build
	CI=1 go test $(STATIC) -timeout 60m $(COMPUTING)

.PHONY: demo
demo: prepare build ## Show the main job on this machine; KEEP=1 leaves it running.
	@.ci/with-docker bin/nagaya-sim demo

.PHONY: pictures
pictures: prepare browser ## Make the pictures of the documents again, of an agent with a week's history and its page in a browser.
	@.ci/with-docker go test $(STATIC) -count=1 -run '^TestPictures$$' ./cmd/nagaya-sim/stage -pictures $(CURDIR)/docs/pictures

.PHONY: box
box: KINDS := deb
box: ARCHES = $(shell go env GOARCH)
box: prepare build package ## Start a pretend ECS instance, a whole machine, and a shell on it; COUNT=2 starts two.
	@.ci/box-tar >/dev/null
	@.ci/with-docker bin/nagaya-sim box --count $(COUNT) --package dist/*.deb $(if $(RUN),-- sh -c '$(RUN)')

.PHONY: vm
vm: KINDS := deb
vm: ARCHES := amd64
vm: build package ## Smoke test in an emulated machine with a kernel of its own (half an hour); RELEASE=trixie, KEEP=1.
	@.ci/prepare vm
	@.ci/vm dist/*.deb

.PHONY: bench-idle
bench-idle: prepare build ## Measure the idle agent with 20 containers for a minute, nginx and peers beside.
	@peers=$$(.ci/peers); .ci/with-docker bin/nagaya-sim bench idle --peers "$$peers"

# The second time with a newer nginx, and only what depends on that.
.PHONY: bench-routes
bench-routes: prepare build ## Measure what following containers takes and loses, peers beside, with two nginx (half an hour).
	@newer=$$(.ci/sid-nginx); peers=$$(.ci/peers); \
	.ci/with-docker sh -c 'bin/nagaya-sim bench routes --peers "$$2"; first=$$?; \
		bin/nagaya-sim bench routes --peers "$$2" --only a,e,j,k --nginx "$$1"; exit $$((first | $$?))' sh "$$newer" "$$peers"

.PHONY: bench-hostile
bench-hostile: prepare build ## Measure what one hostile family of containers costs fifty others (ten minutes; QUICK=1: less).
	@.ci/with-docker bin/nagaya-sim bench hostile $(if $(QUICK),--quick)

.PHONY: bench-address
bench-address: prepare build ## Measure what claiming and handing over an Elastic IP takes and loses, in network namespaces.
	go test $(STATIC) -c -o bin/claim.test ./agent/address/claim
	@.ci/with-docker bin/nagaya-sim bench address

# TRACES is a directory of recorded traces (*.csv) to judge by as well. PAIRS=1 plays a quarter of the cases in every mode.
.PHONY: bench-gate
bench-gate: ## Judge the gate beside cron, a threshold, a script and the bound, by some thousand cases (half an hour).
	go test $(STATIC) -timeout 60m -run '^TestTheGate(IsWorthIt|InEveryMode|InDrawnSettings)$$' -v ./agent/rehearsal -full $(if $(PAIRS),-pairs) $(if $(TRACES),-traces $(abspath $(TRACES)))

.PHONY: bench-credits
bench-credits: ## Print what must hold of the credits: estimate, bills, a year's time, the gate's own cost.
	go test $(STATIC) -timeout 60m -run '^(TestPublishedExamples|TestTheBooksOfALifeBalance)$$' -v ./agent/credit
	go test $(STATIC) -timeout 60m -run '^(TestTheEstimateStaysNear|TestNothingIsBilledThatWasNotAllowed|TestBoundIsTheLeastOfAllPlans)$$' -bench . -v ./agent/rehearsal -full $(if $(TRACES),-traces $(abspath $(TRACES)))

.PHONY: prepare
prepare: ## Install what the tests need and is missing (Debian, root).
	@.ci/prepare

.PHONY: browser
browser: ## Install the browser that tests of the page need, if there is none (Debian, root).
	@.ci/prepare browser

.PHONY: lint
lint: $(STATICCHECK) $(GOFUMPT) $(ACTIONLINT) ## Check format, go vet, staticcheck, shell scripts, workflows.
	@unformatted=$$($(GOFUMPT) -l agent cmd nginx packaging systemd); \
	if [ -n "$$unformatted" ]; then echo "not in gofumpt's form (gofumpt -w):"; echo "$$unformatted"; exit 1; fi
	go vet $(STATIC) ./...
	GOFLAGS="$$(go env GOFLAGS) $(STATIC)" STATICCHECK_CACHE=$(CURDIR)/.cache/staticcheck $(STATICCHECK) ./...
	$(ACTIONLINT)
	shellcheck .ci/* packaging/*.sh packaging/*/*.sh cmd/nagaya-sim/box/boot.sh cmd/nagaya-sim/box/root/usr/local/libexec/*

.PHONY: lines
lines: ## Count the lines of the program by part; more code than LINES fails.
	@.ci/lines $(LINES)

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (30s).
	@grep -rno --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' agent cmd nginx systemd | \
	while IFS=: read -r file _ target; do \
		echo "$$(dirname "$$file") $${target#func }"; \
		go test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done

.PHONY: fuzz-families
fuzz-families: ## A million random inputs of three families: none changes what is served for another's hosts (10 minutes).
	go test -timeout 2h -run 'TestFamilies$$' -v ./nginx -families 1000000

.PHONY: package
package: $(NFPM) share ## Build the .deb and .rpm for amd64 and arm64 into dist/, the same bytes each time.
	rm -f $(DIST)/*.deb $(DIST)/*.rpm
	export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) VERSION=$(VERSION) DIST=$(DIST); \
	for arch in $(ARCHES); do \
		GOARCH=$$arch go build $(STATIC) -ldflags '-s -w -X main.version=$(VERSION)' -o $(DIST)/linux-$$arch/ ./cmd/nagaya; \
		for kind in $(KINDS); do ARCH=$$arch $(NFPM) package --packager $$kind --target $(DIST)/; done; \
	done
	cd $(DIST) && sha256sum $(addprefix *.,$(KINDS))

.PHONY: sbom
sbom: $(CYCLONEDX) ## Write the bill of materials of the program into dist/, CycloneDX in JSON.
	mkdir -p $(DIST)
	$(CYCLONEDX) app -json -licenses -noserial -notimestamp -main cmd/nagaya -output $(DIST)/nagaya.cdx.json

.PHONY: release
release: package sbom ## Make in dist/ what a release publishes: packages, bill of materials, SHA256SUMS.
	cd $(DIST) && sha256sum $(addprefix *.,$(KINDS)) nagaya.cdx.json >SHA256SUMS

.PHONY: image
image: build ## Build the container image IMAGE (nagaya:latest) on BASE, which has nginx in it (nginx:stable).
	rm -rf dist/image && mkdir -p dist/image
	cp bin/nagaya packaging/image/Dockerfile dist/image/
	docker build --build-arg BASE=$(BASE) -t $(IMAGE) dist/image

# What the binary says about itself. The settings in the file are comments: one that
# is not would outrank the instance's tags.
.PHONY: share
share:
	rm -rf $(DIST)/share && mkdir -p $(DIST)/share/man
	go build $(STATIC) -o $(DIST)/nagaya ./cmd/nagaya
	$(DIST)/nagaya config --default >$(DIST)/share/nagaya.yaml
	$(DIST)/nagaya completion bash >$(DIST)/share/nagaya.bash
	$(DIST)/nagaya completion zsh >$(DIST)/share/nagaya.zsh
	$(DIST)/nagaya man $(DIST)/share/man
	gzip -n -9 $(DIST)/share/man/*.1

.PHONY: clean
clean: ## Remove bin/, dist/ and .cache/.
	rm -rf bin dist .cache

# $(call tool,PACKAGE@VERSION): install the command and put its version into its name.
define tool
@echo "installing $(1) into .cache/bin"
@mkdir -p .cache/bin/new
@GOFLAGS= GOBIN=$(CURDIR)/.cache/bin/new go install $(1)
@mv .cache/bin/new/* $@
@rmdir .cache/bin/new
endef

$(STATICCHECK):
	$(call tool,honnef.co/go/tools/cmd/staticcheck@v0.8.2)

$(GOFUMPT):
	$(call tool,mvdan.cc/gofumpt@v0.12.0)

$(NFPM):
	$(call tool,github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0)

$(ACTIONLINT):
	$(call tool,github.com/rhysd/actionlint/cmd/actionlint@v1.7.12)

$(PEBBLE):
	$(call tool,github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3)

$(CHALLTESTSRV):
	$(call tool,github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv@v2.10.3)

$(CYCLONEDX):
	$(call tool,github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0)

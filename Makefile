# fsnap: `make demo` shows it, `make test` tests it, `make install` puts it where the installed GlusterFS looks for it.

SHELL := /bin/bash
CARGO ?= cargo
# Size of the demo's file in MiB.
SIZE ?= 1024
# How long each fuzz target runs.
SECONDS ?= 60

# Where the GlusterFS whose headers we build with looks for user/fsnap. Its API has the version "7." and its own.
libdir = $(shell pkg-config --variable=libdir glusterfs-api)
version = $(patsubst 7.%,%,$(shell pkg-config --modversion glusterfs-api))
xlatordir = $(libdir)/glusterfs/$(version)/xlator/user
# Where the command goes, and the checker, which is for root.
PREFIX ?= /usr
bindir = $(PREFIX)/bin
sbindir = $(PREFIX)/sbin

# How long a soak takes, and the seed of its choices.
MINUTES ?= 60
SEED ?= 1

# For which Debian the docker targets build: bookworm (12) or trixie (13).
SUITE ?= bookworm

# Which rows of docs/performance.md to measure, all if nothing is said; and whether quickly, which leaves the document alone.
ROWS ?=
QUICK ?=

# Which of GlusterFS's own tests to run, by their paths below its tests/; if nothing is said, those that tests/upstream.rs names.
TESTS ?=

.PHONY: all build deps demo test bench fuzz soak upstream docker-demo docker-test docker-up docker-shell docker-down docker-clean lint install uninstall clean

all: build

# Debian packages that are missing; needs root and apt.
deps:
	@./scripts/install-packages

build:
	$(CARGO) build --release --locked --package fsnap --package fsnap-check --package fsnap-cli

demo: deps
	$(CARGO) build --release --locked --package fsnap --package fsnap-cli
	$(CARGO) run --release --locked --example demo -- $(SIZE)

test: deps lint
	./scripts/test

fuzz: deps
	./scripts/fuzz $(SECONDS)

soak: deps
	$(CARGO) build --release --locked --lib
	$(CARGO) run --release --locked --example soak -- $(MINUTES) $(SEED)

# ROWS: some rows of the table; QUICK=1: a tenth of the sizes. The table of the document is renewed, and the plots beside it.
bench: deps
	./scripts/install-packages bench
	$(CARGO) build --release --locked --package fsnap --package fsnap-check --package fsnap-cli
	$(CARGO) run --release --locked --package fsnap-bench -- $(if $(QUICK),--quick --results target/bench/quick.json,--write docs/performance.md) $(ROWS)

upstream: deps
	FSNAP_ALL=1 FSNAP_UPSTREAM="$(TESTS)" $(CARGO) test --locked --test upstream -- --nocapture

# A cluster in containers: docker/README.md. The demo goes away again, so do the tests; the others are a playground.
docker-demo docker-up docker-shell docker-down docker-clean:
	SUITE=$(SUITE) ./docker/cluster $(@:docker-%=%)

docker-test: deps
	SUITE=$(SUITE) ./docker/cluster test

lint:
	./scripts/lint

install:
	@test -n "$(libdir)" || { echo "glusterfs-api.pc is missing: install libglusterfs-dev"; exit 1; }
	install -D -m 755 target/release/libfsnap.so "$(DESTDIR)$(xlatordir)/fsnap.so"
	ln -sf fsnap.so "$(DESTDIR)$(xlatordir)/fsnap-client.so"
	install -D -m 755 target/release/fsnap-check "$(DESTDIR)$(sbindir)/fsnap-check"
	install -D -m 755 target/release/fsnap "$(DESTDIR)$(bindir)/fsnap"

uninstall:
	rm -f "$(DESTDIR)$(xlatordir)/fsnap.so" "$(DESTDIR)$(xlatordir)/fsnap-client.so" "$(DESTDIR)$(sbindir)/fsnap-check" "$(DESTDIR)$(bindir)/fsnap"

clean:
	$(CARGO) clean

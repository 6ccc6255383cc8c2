# fsnap: `make demo` shows it, `make test` tests it, `make install` puts it where the installed GlusterFS looks for it.

SHELL := /bin/bash
CARGO ?= cargo
# Size of the demo's file in MiB.
SIZE ?= 1024

# Where the GlusterFS whose headers we build with looks for user/fsnap. Its API has the version "7." and its own.
libdir = $(shell pkg-config --variable=libdir glusterfs-api)
version = $(patsubst 7.%,%,$(shell pkg-config --modversion glusterfs-api))
xlatordir = $(libdir)/glusterfs/$(version)/xlator/user

# How long a soak takes, and the seed of its choices.
MINUTES ?= 60
SEED ?= 1

.PHONY: all build deps demo test soak lint install uninstall clean

all: build

# Debian packages that are missing; needs root and apt.
deps:
	@./scripts/install-packages

build:
	$(CARGO) build --release --locked

demo: deps
	$(CARGO) build --release --locked --lib
	$(CARGO) run --release --locked --example demo -- $(SIZE)

test: deps lint
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked --features fault-injection --test faults

soak: deps
	$(CARGO) build --release --locked --lib
	$(CARGO) run --release --locked --example soak -- $(MINUTES) $(SEED)

lint:
	./scripts/lint

install:
	@test -n "$(libdir)" || { echo "glusterfs-api.pc is missing: install libglusterfs-dev"; exit 1; }
	install -D -m 755 target/release/libfsnap.so "$(DESTDIR)$(xlatordir)/fsnap.so"

uninstall:
	rm -f "$(DESTDIR)$(xlatordir)/fsnap.so"

clean:
	$(CARGO) clean

# What CI runs is what you run: `make test`.

SHELL := /bin/sh
CARGO ?= cargo
# With nextest there is a process for each test; without it cargo's own runner does the same tests.
RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.PHONY: test needs fmt lint doc unit doctest demo

test: needs fmt lint doc doctest unit

# A C compiler for SQLite and ring. Everything else cargo brings.
needs:
	@./scripts/needs.sh

fmt:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

unit:
	$(CARGO) $(RUNNER) --workspace --all-targets

doctest:
	$(CARGO) test --workspace --doc

demo:
	$(CARGO) run --release -- demo

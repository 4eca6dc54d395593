# What the scripts share. To be sourced, from the root of the repository.
# shellcheck shell=bash

# shellcheck disable=SC2034 # used by those who source this
tools=$PWD/.tools

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Runs a command with root's rights: plainly if we have them, else by sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $*"
    fi
}

# The first of these files that exists.
first_file() {
    local file
    for file in "$@"; do
        if [ -f "$file" ]; then
            printf '%s\n' "$file"
            return
        fi
    done
    return 1
}

softhsm_module() {
    if [ -n "${SOFTHSM2_MODULE:-}" ]; then
        printf '%s\n' "$SOFTHSM2_MODULE"
        return
    fi
    first_file \
        /usr/lib/softhsm/libsofthsm2.so \
        /usr/lib/*/softhsm/libsofthsm2.so \
        /usr/lib64/pkcs11/libsofthsm2.so \
        /opt/homebrew/lib/softhsm/libsofthsm2.so \
        /usr/local/lib/softhsm/libsofthsm2.so
}

# Waits until a command succeeds; gives up after half a minute.
wait_for() {
    local what=$1 tries=150
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "$what: not within 30 s"
        sleep 0.2
    done
}

# A value of a flat JSON object, such as {"address":"0x…"}.
json_field() {
    sed -n "s/.*\"$1\": *\"\\([^\"]*\\)\".*/\\1/p" | head -n 1
}

# Makes a cargo subcommand's program available, from .tools/ if it is nowhere else.
cargo_tool() {
    export PATH="$tools/cargo/bin:$PATH"
    command -v "$1" >/dev/null || cargo install --locked --root "$tools/cargo" "$1" >&2 || die "cargo cannot install $1"
}

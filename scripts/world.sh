# A throwaway world, for what shows Chancery at work: a token, a node, certificates, the gateway, and connectors to it.
# To be sourced after lib.sh, from the root of the repository. Everything is written into the folder $world.
# shellcheck shell=bash

chancery=$PWD/target/debug/chancery
pids=()
keep=no    # whether the folder stays when all went well
verdict=   # what to say in the end, if all went well

chapter() { printf '\n\033[1m%s\033[0m\n' "$*"; }

begin_world() { # FOLDER
    world=$1
    module=$(softhsm_module) || die "SoftHSM2's module is not where it is looked for: set SOFTHSM2_MODULE"
    rm -rf "$world"
    mkdir -p "$world/policies"
    trap end_world EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    node=$(free_port 8546)
    gateway=$(free_port 8545)
    [ "$gateway" != "$node" ] || gateway=$(free_port $((node + 1)))
    admin=$(free_port 9545)
    node_url=http://127.0.0.1:$node
    make_token
    "$chancery" certs init --dir "$world/certs" --host localhost --host 127.0.0.1 >"$world/certs.log"
    "$chancery" certs issue ops --dir "$world/certs" --identity spiffe://chancery/ops --kind admin >>"$world/certs.log"
    write_configuration
}

end_world() {
    local status=$? pid
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        say "it failed; the last words of its programs:"
        tail -n 15 "$world"/*.log >&2 || true
    fi
    # In reverse, so that nobody misses whom they talk to.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        pid=${pids[i]}
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ "$keep" = yes ] || rm -rf "$world"
    [ "$status" -ne 0 ] || [ -z "$verdict" ] || echo "$verdict"
    exit "$status"
}

# Starts a program in the background, with its output in a log. A program, not a function: it is the one to be killed.
start() { # NAME PROGRAM ARGUMENT…
    local name=$1
    shift
    "$@" >"$world/$name.log" 2>&1 &
    pids+=($!)
}

free_port() { # FIRST
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

make_token() {
    mkdir -p "$world/token"
    export SOFTHSM2_CONF=$world/softhsm2.conf
    printf 'directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n' "$world/token" >"$SOFTHSM2_CONF"
    (umask 077 && printf '%s' 87654321 >"$world/pin")
    softhsm2-util --init-token --free --label demo --so-pin 12345678 --pin "$(cat "$world/pin")" >"$world/token.log"
}

write_configuration() {
    cat >"$world/chancery.toml" <<CONFIG
[gateway]
listen      = "127.0.0.1:$gateway"
hosts       = ["localhost:$gateway", "127.0.0.1:$gateway"]
certificate = "certs/server.pem"
key         = "certs/server.key"
client_ca   = "certs/ca.pem"

[admin]
listen = "127.0.0.1:$admin"

[chain]
id   = 31337
node = "$node_url"

[policy]
directory = "policies"

[ledger]
path = "ledger.sqlite"

[[token]]
name     = "demo"
module   = "$module"
label    = "demo"
pin_file = "pin"
environment.SOFTHSM2_CONF = "$SOFTHSM2_CONF"

[[operator]]
name     = "ops"
identity = "spiffe://chancery/ops"
role     = "admin"
person   = "you"
CONFIG
}

# Makes a key in the token for an account, and prints its address.
add_account() { # NAME
    local address
    address=$("$chancery" keys generate --module "$module" --token-label demo --pin-file "$world/pin" \
        --label "$1" --json | json_field address)
    [ -n "$address" ] || die "no key was made"
    cat >>"$world/chancery.toml" <<CONFIG

[[account]]
name    = "$1"
address = "$address"
token   = "demo"
key     = "$1"
CONFIG
    printf '%s\n' "$address"
}

# Issues a certificate for a client, who may ask for signatures of these accounts.
add_client() { # NAME ROLE ACCOUNT…
    local name=$1 role=$2 accounts=
    shift 2
    [ $# -eq 0 ] || accounts=$(printf '"%s", ' "$@")
    "$chancery" certs issue "$name" --dir "$world/certs" --identity "spiffe://chancery/$name" --kind client \
        >>"$world/certs.log"
    cat >>"$world/chancery.toml" <<CONFIG

[[client]]
name     = "$name"
identity = "spiffe://chancery/$name"
role     = "$role"
accounts = [${accounts%, }]
CONFIG
}

start_node() { # ARGUMENT-OF-ANVIL…
    start anvil "$tools/bin/anvil" --port "$node" "$@"
    wait_for "anvil" "$tools/bin/cast" chain-id --rpc-url "$node_url"
}

# Gives an account ether: a thousand of it.
fund() { # ADDRESS
    "$tools/bin/cast" rpc anvil_setBalance "$1" 0x3635c9adc5dea00000 --rpc-url "$node_url" >/dev/null
}

start_gateway() {
    start chancery "$chancery" --config "$world/chancery.toml" serve
    wait_for "the gateway" grep -q listening "$world/chancery.log"
}

# A connector for one of the clients; `url` is then the RPC URL that tools are pointed at.
connect() { # NAME FIRST-PORT
    local name=$1
    start "connect-$name" "$chancery" connect "https://localhost:$gateway" --cert "$world/certs/$name.pem" \
        --key "$world/certs/$name.key" --ca "$world/certs/ca.pem" --socket "$world/$name.ipc" --http "$(free_port "$2")" --json
    wait_for "the connector of $name" grep -q 'http://' "$world/connect-$name.log"
    url=$(grep -o 'http://[^"]*' "$world/connect-$name.log" | head -n 1)
}

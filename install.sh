#!/usr/bin/env bash
# Builds, installs, shows and tests iotstream. `./install.sh --help` tells how.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly root=$PWD

# What the build, the installed program and the tests need from Debian.
readonly build_packages=(libssl-dev liblmdb-dev libjansson-dev pkg-config)
readonly quickstart_packages=(python3)
readonly test_packages=(
    shellcheck mandoc python3 python3-venv openssl curl openssh-client openssh-server rsync iproute2 procps zsh fish nftables
    tinyproxy-bin mosquitto-clients libfaketime qemu-system-x86
)
# What the acceptance and interoperability tests need from PyPI.
readonly test_wheels=(
    pytest==8.3.4 pytest-timeout==2.3.1 azure-iot-device==2.14.0 azure-iot-hub==2.7.0 six==1.17.0 'paho-mqtt>=1.6.1,<2'
    websocket-client==1.8.0 pyftpdlib==2.2.0 azure-storage-blob==12.31.1
    azure-iothub-provisioningserviceclient==1.2.0
)
# The programs that the benchmarks compare with, and what compiles the benchmarks' own tools.
readonly bench_packages=(haproxy nginx libnginx-mod-stream stunnel4 openssh-client openssh-server mosquitto python3 gcc libc6-dev libssl-dev)
readonly linked_roles=(hub dps agent forward cert)

usage() {
    cat <<'TEXT'
usage: ./install.sh [install]           builds and installs (PREFIX, default /usr/local; DESTDIR)
       ./install.sh build               builds the release binary only
       ./install.sh quickstart [--check]  shows a forwarded port through a hub on this machine;
                                        --check ends after the proof, with 0 or 1
       ./install.sh test                installs what the tests need and runs every one of them
       ./install.sh bench [OPTION]...   installs the peers and measures against them, side by side;
                                        bench --help has the options

Environment: PREFIX, DESTDIR, SYSCONFDIR (default /etc), FUZZ_SECONDS (per target, default 5).
TEXT
}

say() { printf '%s\n' "$*" >&2; }

die() { # EXIT-CODE WHAT
    say "install.sh: $2"
    exit "$1"
}

# --- packages -----------------------------------------------------------------------------------------------------

packages() { # NAME...
    local name missing=()
    for name in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$name" 2>/dev/null) == 'install ok installed' ]] || missing+=("$name")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if ! command -v apt-get >/dev/null; then
        die 69 "these packages are missing: ${missing[*]}: install what your distribution calls them"
    fi
    if [[ $EUID -ne 0 ]]; then
        die 77 "these packages are missing: run: sudo apt-get install ${missing[*]}"
    fi
    say "installing ${missing[*]}"
    apt_get install "${missing[@]}" && return 0
    apt_get update && apt_get install "${missing[@]}"
}

apt_get() { # update | install NAME...
    local verb=$1
    shift
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$verb" "$@" </dev/null >&2
}

need_swift() {
    command -v swift >/dev/null || die 69 "swift is missing: install Swift 6.2 or later from https://www.swift.org/install/linux/"
}

# --- building -----------------------------------------------------------------------------------------------------

# The release binary: Swift's library inside; OpenSSL, LMDB and jansson shared, for the distribution to keep secure.
release_options=(-c release --product iotstream -Xswiftc -static-stdlib)

build_release() {
    need_swift
    packages "${build_packages[@]}"
    say 'building the release binary'
    # Spelled out, because bash drops `set -e` where a caller looks at the result.
    swift build "${release_options[@]}" </dev/null >&2 || return 1
    local built
    built=$(swift build "${release_options[@]}" --show-bin-path </dev/null) || return 1
    mkdir -p .build/install
    # Nothing unwinds: no exceptions, and threads end by returning. The tables for it are a seventh of the file; for a backtrace there is
    # the program as it was built, at the same addresses.
    strip -R .eh_frame -R .eh_frame_hdr -o .build/install/iotstream "$built/iotstream" || return 1
    binary=$root/.build/install/iotstream
    local role
    for role in "${linked_roles[@]}"; do ln -sf iotstream ".build/install/iotstream-$role"; done
}

# --- installing ---------------------------------------------------------------------------------------------------

install_all() {
    local prefix=${PREFIX:-/usr/local} destination=${DESTDIR:-} configuration=${SYSCONFDIR:-/etc}/iotstream
    build_release
    local bin=$destination$prefix/bin share=$destination$prefix/share file name
    install -D -m 755 "$binary" "$bin/iotstream" || die 73 "cannot write below $destination$prefix: run as root, or set PREFIX"
    for name in "${linked_roles[@]}"; do ln -sf iotstream "$bin/iotstream-$name"; done

    for file in man/*.[1-8]; do
        [[ -e $file ]] || continue
        install -D -m 644 "$file" "$share/man/man${file##*.}/${file##*/}"
    done

    install -d "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
    "$binary" completion bash >"$share/bash-completion/completions/iotstream"
    "$binary" completion zsh >"$share/zsh/site-functions/_iotstream"
    "$binary" completion fish >"$share/fish/vendor_completions.d/iotstream.fish"
    for name in "${linked_roles[@]}"; do
        ln -sf iotstream "$share/bash-completion/completions/iotstream-$name"
        ln -sf iotstream.fish "$share/fish/vendor_completions.d/iotstream-$name.fish"
    done

    install -d "$destination$prefix/lib/systemd/system"
    for file in etc/systemd/*.service; do
        [[ -e $file ]] || continue
        sed "s|/usr/local/bin|$prefix/bin|g" "$file" >"$destination$prefix/lib/systemd/system/${file##*/}"
    done

    # Services run as a user of their own, who may read the configuration and owns the state.
    local group=root
    if [[ $EUID -eq 0 && -z $destination ]] && command -v useradd >/dev/null; then
        getent passwd iotstream >/dev/null ||
            useradd --system --user-group --home-dir /var/lib/iotstream --no-create-home --shell /usr/sbin/nologin iotstream
        group=iotstream
        install -d -m 750 -g "$group" "$configuration"
    fi
    for file in etc/*.conf; do
        [[ -e $file ]] || continue
        install -D -m 644 "$file" "$share/doc/iotstream/examples/${file##*/}"
        # A configuration that is there belongs to somebody; a user's own installation has none in /etc.
        if [[ ($EUID -eq 0 || -n $destination) && ! -e $destination$configuration/${file##*/} ]]; then
            install -D -m 640 "$file" "$destination$configuration/${file##*/}"
            [[ $group == root ]] || chgrp "$group" "$destination$configuration/${file##*/}"
        fi
    done
    say "installed to $destination$prefix: try iotstream --help, man iotstream"
}

# --- quickstart ---------------------------------------------------------------------------------------------------

children=()
scratch=

clean_up() {
    local pid
    for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${children[@]}"; do wait "$pid" 2>/dev/null || true; done
    [[ -z $scratch ]] || rm -rf "$scratch"
}

wait_for() { # SECONDS LOG PATTERN: prints what the pattern's group found in the log
    local tick found
    for ((tick = 0; tick < $1 * 10; tick++)); do
        found=$(sed -nE "s/.*$3.*/\\1/p" "$2" 2>/dev/null | head -n 1)
        if [[ -n $found ]]; then
            printf '%s\n' "$found"
            return 0
        fi
        sleep 0.1
    done
    say "nothing in $2 looks like $3; it says:"
    tail -n 20 "$2" >&2 || true
    return 1
}

quickstart() {
    local check=${1:-}
    [[ -z $check || $check == --check ]] || die 64 "quickstart $check: no such option: see ./install.sh --help"
    packages "${quickstart_packages[@]}"
    if [[ -n ${IOTSTREAM_BINARY:-} ]]; then binary=$IOTSTREAM_BINARY; else build_release; fi
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/iotstream-quickstart.XXXXXX")
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    unset IOTSTREAM_CONNECTION_STRING IOTSTREAM_STATE IOTSTREAM_CONFIG
    local state=$scratch/state certs=$scratch/certs ca=$scratch/certs/root.ca.cert.pem
    umask 077

    say '1. certificates: a root of our own, and one for the hub'
    "$binary" cert gen-root --dir "$certs" >/dev/null
    "$binary" cert gen-server localhost 127.0.0.1 --dir "$certs" >/dev/null

    say '2. the hub'
    "$binary" hub --config /dev/null --state "$state" --hostname localhost --https 127.0.0.1:0 --mqtts 127.0.0.1:0 \
        --tls-cert "$certs/localhost.full-chain.cert.pem" --tls-key "$certs/localhost.key.pem" \
        </dev/null >"$scratch/hub.log" 2>&1 &
    children+=($!)
    local https
    https=$(wait_for 20 "$scratch/hub.log" 'ready https=([^ ]+)') || exit 1
    say "   ready on $https"

    say '3. a device, and something on it worth reaching: a web server that only the device can see'
    "$binary" device create demo --state "$state" >"$scratch/demo.connection-string"
    "$binary" policy create operators --rights ServiceConnect --state "$state" >"$scratch/service.connection-string"
    local proof
    proof="bytes flow: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    mkdir "$scratch/www"
    printf '%s\n' "$proof" >"$scratch/www/index.html"
    python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$scratch/www" </dev/null >"$scratch/web.log" 2>&1 &
    children+=($!)
    local web
    web=$(wait_for 20 "$scratch/web.log" 'port ([0-9]+)') || exit 1

    say "4. the agent on the device: offers that web server (port $web) under the name 'web', and nothing else"
    "$binary" agent --connection-string-file "$scratch/demo.connection-string" --ca "$ca" --state "$scratch/agent" \
        --allow "web=127.0.0.1:$web" </dev/null >"$scratch/agent.log" 2>&1 &
    children+=($!)
    wait_for 20 "$scratch/agent.log" '(ready demo)' >/dev/null || exit 1

    say '5. the forward on your side: a local port that is the device'"'"'s'
    "$binary" forward demo 0:web --connection-string-file "$scratch/service.connection-string" --ca "$ca" \
        --identity "$scratch/service" </dev/null >"$scratch/forward.log" 2>&1 &
    children+=($!)
    local port
    port=$(wait_for 20 "$scratch/forward.log" '127\.0\.0\.1:([0-9]+) -> demo:web') || exit 1

    local answer
    answer=$(fetch "$port") || true
    if [[ $answer != *"$proof"* ]]; then
        say "quickstart: no proof: asked http://127.0.0.1:$port/ and got: ${answer:-nothing}"
        tail -n 20 "$scratch"/{hub,agent,forward}.log >&2
        exit 1
    fi
    say "6. proof: http://127.0.0.1:$port/ said \"$proof\", by way of forward, hub and agent"
    [[ -z $check ]] || return 0
    cat >&2 <<TEXT

Everything stays up until Ctrl-C. Try in another terminal:
    curl http://127.0.0.1:$port/
    export IOTSTREAM_STATE=$state
    $binary device list
    $binary stream list
    $binary connect demo web --connection-string-file $scratch/service.connection-string --ca $ca --identity $scratch/service
Logs: $scratch/*.log
TEXT
    wait
}

fetch() { # PORT: the answer of a web server, with nothing but bash
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf 'GET / HTTP/1.0\r\n\r\n' >&3
    answer=$(timeout 20 cat <&3)
    exec 3>&-
    printf '%s\n' "$answer"
}

# --- tests --------------------------------------------------------------------------------------------------------

passed=0
failed=0
skipped=0

count() { # NAME PASSED FAILED [SKIPPED]
    passed=$((passed + $2))
    failed=$((failed + $3))
    skipped=$((skipped + ${4:-0}))
    printf '== %s: %d passed, %d failed%s\n' "$1" "$2" "$3" "${4:+, $4 skipped}"
}

stage() { # NAME COMMAND...: one check; its output is shown when it fails
    local name=$1 log=$logs/${1//[^a-z]/-}.log
    shift
    printf '== %s\n' "$name"
    if "$@" </dev/null >"$log" 2>&1; then
        count "$name" 1 0
    else
        tail -n 60 "$log"
        count "$name" 0 1
        return 1
    fi
}

test_packages_stage() { packages "${build_packages[@]}" "${test_packages[@]}"; }

test_wheels_stage() {
    [[ -x .build/venv/bin/python ]] || python3 -m venv .build/venv || return 1
    .build/venv/bin/python -m pip install --quiet --disable-pip-version-check "${test_wheels[@]}"
}

lint_manuals() {
    local file broken=0
    for file in man/*.[1-8]; do
        [[ -e $file ]] || continue
        mandoc -T lint -W warning "$file" || broken=1
    done
    return "$broken"
}

lint_completions() {
    local shell
    for shell in bash zsh fish; do
        "$binary" completion "$shell" >"$logs/completion.$shell" || return 1
        "$shell" -n "$logs/completion.$shell" || return 1
    done
    shellcheck -s bash "$logs/completion.bash"
}

check_binary() { # what the quality bars say about the executable itself
    local size
    size=$(stat -c %s "$binary")
    echo "size $size"
    [[ $size -le 10000000 ]] || return 1
    ! ldd "$binary" | grep -E 'libswift|libFoundation|not found'
}

unit_tests() {
    local log=$logs/swift-test.log good bad
    echo '== swift test'
    swift test </dev/null >"$log" 2>&1 && bad=0 || bad=1
    good=$(sed -nE 's/.*Test run with ([0-9]+) tests? .*/\1/p' "$log" | tail -n 1)
    if [[ $bad -ne 0 ]]; then
        bad=$(grep -cE '^✘ Test .* failed after' "$log" || true)
        [[ $bad -gt 0 ]] || bad=1
        grep -E '✘|error:|Fatal|signal' "$log" | head -n 60 || tail -n 40 "$log"
    fi
    good=$((${good:-0} > bad ? ${good:-0} - bad : 0))
    [[ $((good + bad)) -gt 0 ]] || bad=1
    count 'swift test' "$good" "$bad"
}

fuzzers() {
    [[ -e Tests/Fuzz/run ]] || return 0
    local log=$logs/fuzz.log good bad
    echo '== fuzz targets'
    Tests/Fuzz/run "${FUZZ_SECONDS:-5}" </dev/null >"$log" 2>&1 || true
    read -r good bad < <(sed -nE 's/^fuzz: ([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$log" | tail -n 1) || true
    [[ -n ${good:-} && ${bad:-1} -eq 0 ]] || tail -n 40 "$log"
    count 'fuzz targets' "${good:-0}" "${bad:-1}"
}

python_tests() { # DIRECTORY
    local name=$1 report=$logs/${1##*/}.xml tests failures errors skips
    compgen -G "$name/test_*.py" >/dev/null || return 0
    printf '== %s\n' "$name"
    rm -f "$report"
    IOTSTREAM_BINARY=$binary PYTHONDONTWRITEBYTECODE=1 .build/venv/bin/python -m pytest -q --timeout 600 -p no:cacheprovider \
        --junitxml "$report" "$name" </dev/null || true
    if [[ ! -e $report ]]; then
        count "$name" 0 1
        return 1
    fi
    read -r tests failures errors skips < <(
        sed -nE 's/.*<testsuite [^>]*errors="([0-9]+)" failures="([0-9]+)" skipped="([0-9]+)" tests="([0-9]+)".*/\4 \2 \1 \3/p' "$report"
    ) || true
    [[ ${tests:-0} -gt 0 ]] || failures=1
    count "$name" $((${tests:-0} - ${failures:-0} - ${errors:-0} - ${skips:-0} > 0 ? tests - failures - errors - skips : 0)) \
        $((${failures:-0} + ${errors:-0})) "${skips:-0}"
}

test_all() {
    logs=$root/.build/test-logs
    mkdir -p "$logs"
    need_swift
    stage 'packages' test_packages_stage || true
    stage 'wheels' test_wheels_stage || true
    stage 'format' swift format lint --strict -r Sources Tests Package.swift || true
    stage 'shellcheck' shellcheck install.sh .ci/run || true
    stage 'manuals' lint_manuals || true
    if stage 'debug build' swift build --build-tests; then unit_tests; else count 'swift test' 0 1; fi
    fuzzers || true
    if stage 'release build' build_release; then
        stage 'binary' check_binary || true
        stage 'completions' lint_completions || true
        stage 'quickstart' env IOTSTREAM_BINARY="$binary" "$root/install.sh" quickstart --check || true
        stage 'benchmarks work' env IOTSTREAM_BINARY="$binary" Tests/Benchmarks/run \
            --quick --only hub-plain-1 hub-websocket-1 chain-cost-1 || true
        python_tests Tests/Acceptance || true
        python_tests Tests/Interop || true
    fi
    [[ $skipped -eq 0 ]] || printf '%d skipped: their reasons are above\n' "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [[ $failed -eq 0 ]]
}

# --- benchmarks ---------------------------------------------------------------------------------------------------

bench_peers() { # what cannot be installed is missing in the table, not an error
    local service started=()
    # Debian starts services that it installs; these are wanted as programs only.
    if command -v systemctl >/dev/null; then
        for service in haproxy nginx stunnel4 ssh mosquitto; do systemctl -q is-active "$service" 2>/dev/null || started+=("$service"); done
    fi
    (packages "${bench_packages[@]}") || say 'some peers are missing: their columns stay empty'
    for service in "${started[@]}"; do
        if systemctl -q is-active "$service" 2>/dev/null; then systemctl -q disable --now "$service" || true; fi
    done
}

bench() {
    bench_peers
    if [[ -n ${IOTSTREAM_BINARY:-} ]]; then binary=$IOTSTREAM_BINARY; else build_release; fi
    IOTSTREAM_BINARY=$binary exec Tests/Benchmarks/run "$@"
}

# --- the command line ---------------------------------------------------------------------------------------------

binary=
logs=

case ${1:-install} in
    install) install_all ;;
    build) build_release && printf '%s\n' "$binary" ;;
    quickstart) shift && quickstart "$@" ;;
    test) test_all ;;
    bench) shift && bench "$@" ;;
    -h | --help | help) usage ;;
    *)
        usage >&2
        die 64 "$1: no such command"
        ;;
esac

# packages.sh - what quickstart.sh and test.sh share: Debian packages, and building a preset. Sourced by bash.

MQB_BUILD_PACKAGES="cmake ninja-build gcc libc6-dev pkg-config libopenblas-dev libdnnl-dev libinih-dev libprotobuf-c-dev
    protobuf-c-compiler protobuf-compiler libonnx-dev libjansson-dev zlib1g-dev libjpeg62-turbo-dev libpng-dev libcmocka-dev"

# Installs those of the named packages that are missing; says in one sentence what to do if it cannot.
install_packages() {
    local package missing="" sudo=""
    command -v dpkg-query >/dev/null 2>&1 || return 0 # not a Debian: CMake names what it misses
    for package in "$@"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "$0: these packages are missing and only root can install them: apt-get install$missing" >&2
            exit 1
        fi
        sudo=sudo
    fi
    echo "installing:$missing" >&2
    # Package lists may be old or absent: try with what is there, then with fresh ones.
    if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null 2>&1 &&
        ! { $sudo apt-get update -qq >&2 &&
            $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >&2; }; then
        echo "$0: these packages could not be installed; install them by hand, then try again: apt-get install$missing" >&2
        exit 1
    fi
}

# install_onnxruntime FOLDER: the npm package into FOLDER/node_modules. Its own install script fetches what is not needed, so it
# does not run. Without it the tests that need it say so and skip.
install_onnxruntime() {
    local folder=$1
    [ ! -e "$folder/node_modules/onnxruntime-node" ] || return 0
    command -v npm >/dev/null 2>&1 || (install_packages nodejs npm) || true
    mkdir -p "$folder"
    npm install --prefix "$folder" --ignore-scripts --no-save --no-audit --no-fund onnxruntime-node@1.30.0 >/dev/null 2>&1 ||
        echo "ONNX Runtime could not be installed from npm: tests that need it are skipped" >&2
}

# build_preset ROOT PRESET: configures and builds; quiet unless it fails.
build_preset() {
    local root=$1 preset=$2 log code=0
    log=$(mktemp)
    echo "building ($preset)" >&2
    (cd "$root" && cmake --preset "$preset" && cmake --build --preset "$preset" -j "$(nproc)") >"$log" 2>&1 || code=$?
    [ "$code" -eq 0 ] || { tail -n 60 "$log" >&2; echo "$0: building the preset $preset failed; its last lines are above" >&2; }
    rm -f "$log"
    return "$code"
}

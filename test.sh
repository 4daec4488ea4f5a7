#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test twice: as released, then with the address and undefined-behaviour
# sanitizers (without the tests labelled slow or noasan). The last line is "N passed, N failed"; the exit code says the same.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$root/cmake/packages.sh"

passed=0 failed=0

# run_tests FOLDER [ctest flags]: adds to passed and failed by ctest's own summary.
run_tests() {
    local folder=$1 log summary total bad code=0
    shift
    log=$(mktemp)
    (cd "$folder" && ctest --output-on-failure -j "$(nproc)" "$@") 2>&1 | tee "$log" || true
    # "97% tests passed, 1 tests failed out of 35"
    summary=$(grep -E '^[0-9]+% tests passed, [0-9]+ tests? failed out of [0-9]+' "$log" | tail -n 1 || true)
    rm -f "$log"
    if [ -z "$summary" ]; then
        echo "test.sh: ctest in $folder ended without a summary" >&2
        failed=$((failed + 1))
        return 0
    fi
    bad=$(echo "$summary" | sed -E 's/.*passed, ([0-9]+) tests? failed.*/\1/')
    total=$(echo "$summary" | sed -E 's/.*out of ([0-9]+).*/\1/')
    failed=$((failed + bad))
    passed=$((passed + total - bad))
}

# A preset that does not build is a failure of its own; the other one is still tested.
test_preset() {
    local preset=$1 folder=$2
    shift 2
    if build_preset "$root" "$preset"; then
        run_tests "$folder" "$@"
    else
        failed=$((failed + 1))
    fi
}

install_packages $MQB_BUILD_PACKAGES
# For the source code that tvm_arm exports: a second compiler, another processor. What is missing is skipped by its test, with a word.
(install_packages clang gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user) || true
# For the files that fbgemm_x86 and tensorrt_sim export: ONNX Runtime, once for both presets.
install_onnxruntime "$root/build"
export MQBENCH_ONNXRUNTIME="$root/build"
test_preset release "$root/build"
test_preset asan "$root/build-asan" -LE 'slow|noasan'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

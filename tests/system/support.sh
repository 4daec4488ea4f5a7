# support.sh - sourced by the system tests: a scratch folder, and `expect`.
set -u
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
failures=0 checks=0

# expect CODE PATTERN COMMAND...: the exit code, and a line of standard error that matches (case-insensitive, extended).
expect() {
    local code=$1 pattern=$2 got=0
    shift 2
    "$@" >"$scratch/stdout" 2>"$scratch/stderr" </dev/null || got=$?
    checks=$((checks + 1))
    if [ "$got" -ne "$code" ] || ! grep -qiE -- "$pattern" "$scratch/stderr"; then
        failures=$((failures + 1))
        echo "FAILED: $*"
        echo "  exit code $got, expected $code; expected a line like: $pattern"
        sed 's/^/  | /' "$scratch/stderr" | head -20
    fi
}

check() {
    checks=$((checks + 1))
    if ! "$@"; then
        failures=$((failures + 1))
        echo "FAILED: $*"
    fi
}

# strip RECORD: what of a record does not depend on time, threads and the names of files.
strip() {
    awk '
        skip { if (match($0, /^ */) && RLENGTH == depth && $0 ~ /^ *[]}]/) skip = 0; next }
        /^ *"(command|files|time|memory)": *[[{]$/ { match($0, /^ */); depth = RLENGTH; skip = 1; next }
        /"(threads|seconds|step_memory_bytes|command|files|time|memory)":/ { next }
        { print }' "$1"
}
finish() {
    echo "$checks checks, $failures failed"
    [ "$failures" -eq 0 ]
}

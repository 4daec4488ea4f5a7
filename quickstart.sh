#!/usr/bin/env bash
# Installs what is missing (Debian packages), builds, and runs mqbench: with your arguments, or the embedded example.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$root/cmake/packages.sh"

install_packages $MQB_BUILD_PACKAGES
build_preset "$root" release

if [ $# -eq 0 ]; then
    set -- --backend snpe_sim --algo lsq
    echo "+ build/bin/mqbench $*" >&2
fi
exec "$root/build/bin/mqbench" "$@"

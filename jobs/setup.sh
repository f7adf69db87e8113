# Sourced by jobs/quickstart.sh and tests/run.sh, from the root of the tree: what a fresh Debian 12 or
# 13 or Ubuntu machine needs, and how this program is built on it.
# shellcheck shell=bash

packages=(gcc libc6-dev cmake make pkg-config openmpi-bin libopenmpi-dev libhdf5-openmpi-dev
    libdnnl-dev libpng-dev libjpeg-dev libjansson-dev libexpat1-dev libconfig-dev nettle-dev
    liblapacke-dev libcmocka-dev)

# Installs what is missing, with apt-get, as root or through sudo.
install_packages() {
    local absent=() p
    for p in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || absent+=("$p")
    done
    [ ${#absent[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "no apt-get here; what follows needs what corresponds to: ${absent[*]}" >&2
        return 0
    fi
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "not root and no sudo; ask for: apt-get install ${absent[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "installing ${absent[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get -q update &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
            -o Dpkg::Use-Pty=0 install --no-install-recommends "${absent[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# build_meddiff [CMake options]: leaves build/meddiff.
build_meddiff() {
    local log=build/build.log
    mkdir -p build
    echo "building in build/"
    if ! { cmake -S . -B build "$@" && cmake --build build --parallel "$(nproc)"; } >"$log" 2>&1; then
        grep -nE -A 5 '(error|warning): |CMake Error|undefined reference|[*][*][*]' "$log" | tail -n 40 >&2 || tail -n 40 "$log" >&2
        echo "the build failed; all of it stands in $log" >&2
        return 1
    fi
}

# Lets mpirun start as root, with more ranks than cores, without binding or spinning (Open MPI 4, 5).
mpi_environment() {
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
    export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_tcp_if_include=lo
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} # waiting threads leave the cores to the other ranks
    export HOME=${HOME:-/tmp}
}

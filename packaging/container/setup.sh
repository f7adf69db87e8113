#!/bin/bash
# What both container recipes run inside of an image of Debian or Ubuntu, in the root of the tree:
#   setup.sh build [CMake options]     compiles, and installs into /opt/meddiff
#   setup.sh runtime                   only what the program in /opt/meddiff loads
set -euo pipefail
prefix=/opt/meddiff
list=$prefix/share/meddiff/packages

# The packages of the libraries that the program names, but those of CUDA, which are the base image's.
loaded() {
    local library
    ldd $prefix/bin/meddiff | sed -n 's/.* => \([^ ]*\) .*/\1/p' | while read -r library; do
        dpkg-query -S "*/$(basename "$(readlink -f "$library")")" 2>/dev/null | sed 's/[:,].*//' | head -n 1
    done | sort -u | grep -vE 'cuda|cudnn|nccl|cublas|nvidia'
}

case ${1:-} in
build)
    shift
    # shellcheck source=jobs/setup.sh
    source jobs/setup.sh
    install_packages
    # x86-64-v3 (AVX2) runs on every machine of the last ten years, native only on one like this
    build_meddiff -DCMAKE_BUILD_TYPE=Release -DMEDDIFF_TESTS=OFF -DMEDDIFF_ARCH=x86-64-v3 "$@"
    cmake --install build --prefix $prefix
    loaded >$list
    ;;
runtime)
    mapfile -t packages <$list
    apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends openmpi-bin "${packages[@]}"
    rm -rf /var/lib/apt/lists/*
    $prefix/bin/meddiff --version
    ;;
*)
    echo "setup.sh build [CMake options] | runtime" >&2
    exit 2
    ;;
esac

#!/bin/bash
# include/meddiff_reader.h, compiled as C11 and as C++17 without a warning, reads of a store what the store library
# reads, and says what is wrong with others.
# shellcheck source=tests/jobs/common.bash
source tests/jobs/common.bash
poke=$programs/poke
read -ra flags <<<"$(pkg-config --cflags --libs hdf5 2>/dev/null)"
if [ ${#flags[@]} = 0 ]; then # the parallel library, whose header names mpi.h
    read -ra flags <<<"$(pkg-config --cflags --libs hdf5-openmpi) $(mpicc --showme:compile) $(mpicc --showme:link)"
fi
compile() { # OUTPUT COMPILER OPTIONS...
    "$2" "${@:3}" -Wall -Wextra -pedantic -Wconversion -Wno-sign-conversion -Werror -I"$tree/include" \
        "$tree/tests/jobs/read_store.c" -o "$1" "${flags[@]}" >out 2>&1 || fail "$*: does not compile"
}
compile read_c "${CC:-cc}" -std=c11
readers=(./read_c)
if command -v "${CXX:-g++}" >/dev/null; then
    compile read_cxx "${CXX:-g++}" -std=c++17 -DOMPI_SKIP_MPICXX -x c++
    # shellcheck disable=SC2206
    readers+=(./read_cxx)
else
    echo 'without a C++ compiler: not compiled as C++17'
fi

run 0 1 pipeline small.cfg
"$poke" run/pairs.h5 set state 3 3
"$poke" run/pairs.h5 set state 5 0
"$meddiff" export run --set export.format=hdf5 >out 2>&1 || fail export
# refuses TEXT STORE [SPLIT]
refuses() {
    "$reader" "${@:2}" >out 2>&1 && fail "$reader ${*:2}: read"
    { [ "$(wc -l <out)" = 1 ] && grep -qF "$1" out; } || fail "$reader ${*:2}: no \"$1\""
}
"$programs/check_export" lines run/pairs.h5 >wanted || fail 'check_export lines'
cp run/pairs.h5 other.h5 && "$poke" other.h5 attribute schema meddiff.pears
cp run/pairs.h5 empty.h5 && for i in $(seq 0 13); do "$poke" empty.h5 set state "$i" 0; done
cp run/pairs.h5 blind.h5 && "$poke" blind.h5 rename guides guise
cp run/pairs.h5 mute.h5 && "$poke" mute.h5 drop prompt
head -c 50000 run/pairs.h5 >short.h5
for reader in "${readers[@]}"; do
    "$reader" run/pairs.h5 >out 2>&1 || fail "$reader: exit code"
    cmp out wanted || fail "$reader: not what the store library reads"
    [ "$(wc -l <wanted)" = 13 ] || fail 'not the accepted pairs'
    # the copy numbers its rows anew
    "$reader" run/export/hdf5/pairs.h5 >out 2>&1 || fail "$reader: the compact copy"
    { cut -d' ' -f2- wanted >a && cut -d' ' -f2- out | cmp - a; } || fail "$reader: the compact copy differs"
    for split in train:19 val:0 test:2; do
        "$reader" run/data.h5 ${split%:*} >out 2>&1 || fail "$reader data.h5 ${split%:*}"
        [ "$(head -n 1 out)" = "${split#*:} 64 64 7 " ] || fail "$reader: ${split%:*} of data.h5"
    done
    { "$reader" run/backgrounds.h5 >out 2>&1 && [ "$(head -n 1 out)" = '5 64 64 7 ' ]; } || fail "$reader backgrounds.h5"
    { "$reader" empty.h5 >out 2>&1 && [ "$(head -n 1 out)" = '0 64 64 7 an image of hta' ]; } || fail "$reader: no pair accepted"
    refuses 'nowhere.h5: cannot be opened' nowhere.h5
    refuses 'small.cfg: cannot be opened' small.cfg
    refuses 'short.h5: cannot be opened' short.h5
    refuses 'other.h5: this HDF5 file is no store of meddiff, or not one of pictures' other.h5
    refuses 'its images or masks are missing' blind.h5
    refuses 'prompt: no such attribute' mute.h5
    refuses 'tran: no such split' run/data.h5 tran
    refuses 'pairs have no split' run/pairs.h5 train
done
finish reader

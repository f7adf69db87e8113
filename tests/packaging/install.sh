#!/bin/bash
# What `cmake --install` leaves works from where it lies, in another directory, and after it was moved: the program
# with its configurations and data/tiny, the manual pages, the completion, the reader's pkg-config file.
#   install.sh BUILD CMAKE
set -uo pipefail
build=$(realpath "$1") cmake=$2
# shellcheck source=jobs/setup.sh
source jobs/setup.sh
mpi_environment
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bad=0

fail() {
    echo "FAILED: $1"
    [ ! -e "$dir/out" ] || tail -n 12 "$dir/out" | sed 's/^/    /'
    bad=1
}

DESTDIR=$dir/stage "$cmake" --install "$build" --prefix /opt/md >"$dir/out" 2>&1 || fail 'cmake --install'
[ ! -e /opt/md ] || fail 'DESTDIR is not respected'
root=$dir/stage/opt/md
for file in bin/meddiff share/meddiff/{configs/quickstart.cfg,data/tiny/unet/config.json,slurm/env.sh,analysis/meddiff_data.py} \
    share/man/man1/meddiff{,-finetune,-bench-cluster}.1 share/bash-completion/completions/meddiff \
    share/doc/meddiff/{README.md,LICENSE,NOTICE,privacy.md}; do
    [ -s "$root/$file" ] || fail "$file is not installed"
done

# ---- moved, and from another directory
mv "$dir/stage/opt/md" "$dir/moved"
root=$dir/moved
mkdir "$dir/work"
cd "$dir/work" || exit 1
PATH=$root/bin:$PATH
[ "$(command -v meddiff)" = "$root/bin/meddiff" ] || fail 'the wrong program is in PATH'
try() { "$@" >"$dir/out" 2>&1 || fail "$* (exit code $?)"; }
try meddiff --help
# the quickstart's first steps: its phantoms, its import, and whether all that it names is there
try meddiff phantom runs/quickstart-phantoms --set phantom.count=8 --set phantom.normal=4 --set phantom.test=2
try meddiff import configs/quickstart.cfg --set data.pairs=6
[ -s runs/quickstart/data.h5 ] || fail 'no runs/quickstart/data.h5'
try meddiff doctor configs/quickstart.cfg --set data.pairs=6
grep -q "^ok  *foundation  *$root/bin/../share/meddiff/data/tiny" "$dir/out" || fail 'data/tiny is not found where it is installed'
try meddiff doctor configs/tiny/busi.cfg --set data.root=runs/quickstart-phantoms --set data.format=folder
grep -q '^ok  *encoder .*data/tiny/encoder' "$dir/out" || fail 'the encoder is not found where it is installed'
# what lies here comes first
mkdir configs
printf 'seed = ;\n' >configs/quickstart.cfg
meddiff import configs/quickstart.cfg >"$dir/out" 2>&1
grep -q 'configs/quickstart.cfg:1: syntax error' "$dir/out" || fail 'an installed configuration hides the one that is here'
rm -r configs
meddiff import configs/none.cfg >"$dir/out" 2>&1
[ $? = 2 ] || fail 'a configuration that is nowhere: exit code'

# ---- manual pages: one for each job, without a warning
for job in $(meddiff --complete | tr ' ' -); do
    [ -s "$root/share/man/man1/meddiff-$job.1" ] || fail "no page for $job"
done
if command -v man >/dev/null; then
    for page in "$root"/share/man/man1/*.1; do
        LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$page" >"$dir/page" 2>"$dir/out" || fail "man -l ${page##*/}"
        [ ! -s "$dir/out" ] || fail "${page##*/} has warnings"
    done
    LC_ALL=C.UTF-8 MANWIDTH=200 man -l "$root/share/man/man1/meddiff-finetune.1" 2>/dev/null | grep -q 'int, default 2000; 0 to 10000000' ||
        fail 'the page of finetune does not say what finetune.steps is'
else
    echo 'not tried: the manual pages (no man here)'
fi

# ---- completion
# complete WANTED WORD...: what the last word comes to.
complete_to() {
    local want=$1 words
    shift
    # shellcheck disable=SC2034
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _meddiff 2>/dev/null
    words=$(printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" " ")
    [ "${words% }" = "$want" ] || { echo "got: $words" >"$dir/out"; fail "completion of: $*"; }
}
# shellcheck source=packaging/bash-completion/meddiff
source "$root/share/bash-completion/completions/meddiff"
touch mine.cfg
complete_to finetune meddiff "fi"
complete_to 'finetune.states= finetune.steps=' meddiff finetune mine.cfg --set finetune.st
complete_to 'finetune.states= finetune.steps=' meddiff finetune mine.cfg --set = finetune.st
complete_to '' meddiff status runs --set finetune.st
complete_to cuda meddiff finetune mine.cfg --set device = cu
complete_to 'false true' meddiff finetune mine.cfg --set deterministic =
complete_to --fresh meddiff finetune --fr
complete_to mine.cfg meddiff finetune mi
complete_to 'runs/quickstart runs/quickstart-phantoms' meddiff status runs/
complete_to cluster meddiff bench cl
complete_to train meddiff masks tr

# ---- the reader for C
if [ -e "$root/include/meddiff_reader.h" ]; then
    folder=$(dirname "$(find "$root" -name meddiff_reader.pc)")
    PKG_CONFIG_PATH=$folder pkg-config --cflags meddiff_reader >"$dir/out" 2>&1 || fail 'pkg-config meddiff_reader'
    grep -q "include" "$dir/out" || fail 'pkg-config names no folder'
fi
[ $bad = 0 ] && echo 'install: all well'
exit $bad

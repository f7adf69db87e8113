#!/bin/bash
# Rules that the compiler does not hold: lint.sh RULE, run in the root of the tree. Prints each
# offence as FILE:LINE: text; returns 1 when there is one, 77 when a tool is missing.
set -uo pipefail
export LC_ALL=C

# Room and number; a room includes only rooms with a smaller number, and itself. backend/ itself is the
# list of backends and names them all.
ranks='base 0 graph 1 image 1 format 1 config 1 ops 2 comm 2 store 2
backend/ref 3 backend/cpu 3 backend/cuda 3 backend 3 cluster 3 nn 4 diffusion 4 model 5 train 6 generate 6'

# Vendor header (a pattern for what stands in <>), and the rooms that may name it.
vendors='^png\.h$ image
^jpeglib\.h$|^jerror\.h$|^turbojpeg\.h$ image
^jansson format
^expat\.h$ format
^libconfig config
^mpi(-ext)?\.h$ comm|store
^nccl comm
^hdf5|^H5 store
^oneapi/|^dnnl backend/cpu
^omp\.h$ backend/cpu
^nettle/ base
^lapacke generate
^cuda|^cublas|^cudnn backend/cuda'

sources() { find src jobs -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort; }

# The file with comments, strings and character constants blanked, line numbers kept.
code_only() {
    awk '{
        out = ""; n = length($0)
        for (i = 1; i <= n; i++) {
            c = substr($0, i, 1); d = substr($0, i, 2)
            if (inside) { if (d == "*/") { inside = 0; i++ } }
            else if (quote != "") {
                if (c == "\\") i++
                else if (c == quote) { quote = ""; out = out c }
            }
            else if (d == "/*") { inside = 1; i++ }
            else if (d == "//") break
            else { if (c == "\"" || c == "\047") quote = c; out = out c }
        }
        quote = ""
        print out
    }' "$1"
}

# shellcheck disable=SC2016
rooms() {
    sources | grep '^src/' | xargs awk -v ranks="$ranks" '
        function room(path) {
            if (match(path, /^backend\/[a-z]+\//)) return substr(path, 1, RLENGTH - 1)
            sub(/\/.*/, "", path); return path
        }
        BEGIN { n = split(ranks, w, /[ \n]+/); for (i = 1; i < n; i += 2) rank[w[i]] = w[i + 1] }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            split($0, part, "\""); target = part[2]
            own = room(substr(FILENAME, 5)); other = room(target)
            if (!(own in rank)) { print FILENAME ":" FNR ": " own " is no room"; bad = 1 }
            else if (target !~ /\//) {
                print FILENAME ":" FNR ": \"" target "\" without its room"; bad = 1 }
            else if (!(other in rank)) {
                print FILENAME ":" FNR ": " other " is no room"; bad = 1 }
            else if (own != other && !(own == "backend" && other ~ /^backend/) &&
                     rank[other] >= rank[own]) {
                print FILENAME ":" FNR ": " own " (" rank[own] ") includes " target \
                      " (" rank[other] ")"; bad = 1 }
        }
        END { exit bad }'
}

vendors() {
    local bad=0
    while read -r header allowed; do
        while IFS=: read -r file line text; do
            name=${text#*<} name=${name%%>*}
            [[ $name =~ $header ]] || continue
            [[ $file =~ ^src/($allowed)/ ]] && continue
            echo "$file:$line: <$name> belongs to src/$allowed only"
            bad=1
        done < <(sources | xargs grep -nE '^[ \t]*#[ \t]*include[ \t]*<' /dev/null)
    done <<<"$vendors"
    # store/ may open files through MPI-IO on MPI_COMM_SELF; every other MPI name is comm's.
    while read -r file; do
        if code_only "$file" | grep -nE '\bMPI_[A-Za-z_]+' |
            grep -vE '\bMPI_(COMM_SELF|INFO_NULL|Initialized|Finalized)\b' | sed "s|^|$file:|"; then
            bad=1
        fi
    done < <(find src -name '*.[ch]' ! -path 'src/comm/*' | sort)
    return $bad
}

# Each header compiles alone, has its guard and the guards for C++.
headers() {
    local bad=0 cflags messages
    messages=$(mktemp)
    cflags=$(pkg-config --cflags hdf5-openmpi libconfig jansson expat nettle 2>/dev/null)
    cflags+=" $(mpicc --showme:compile 2>/dev/null)"
    for dir in ${CUDA_INCLUDE:-}; do cflags+=" -isystem $dir"; done
    while read -r file; do
        # what names a CUDA header needs the toolkit; CMake says where it is
        [ -n "${CUDA_INCLUDE:-}" ] || ! grep -qE '"backend/cuda/(vendor|staging|choose|dnn)\.h"|<cu(da|blas|dnn)' "$file" || continue
        # shellcheck disable=SC2086
        if ! ${CC:-cc} -std=c11 -D_POSIX_C_SOURCE=200809L -DMEDDIFF_VERSION='"0"' -Wall -Wextra \
            -Werror -Wno-unused-function -Wno-psabi -Isrc -Ijobs $cflags -fsyntax-only -include "$file" \
            -x c /dev/null 2>"$messages"; then
            grep -m 3 error: "$messages"
            echo "$file:1: does not compile alone"
            bad=1
        fi
        grep -qE '^#ifndef MD_[A-Z0-9_]+_H$' "$file" || { echo "$file:1: no guard MD_..._H"; bad=1; }
    done < <(find src jobs -name '*.h' | sort)
    rm -f "$messages"
    return $bad
}

# No library ends the process, asserts or prints: that is for base/log.c, jobs/ and tests/.
calls() {
    local bad=0
    while read -r file; do
        if code_only "$file" |
            grep -nE '(^|[^A-Za-z0-9_>.])(exit|_exit|_Exit|quick_exit|abort|assert|printf|vprintf|puts|putchar|perror)[ \t]*\(|(fprintf|fputs|vfprintf|fputc)[ \t]*\([^;]*\b(stderr|stdout)\b' |
            sed "s|^|$file:|"; then
            bad=1
        fi
    done < <(find src -name '*.[ch]' ! -path src/base/log.c | sort)
    return $bad
}

# No path of one machine or person in any file that belongs to the project.
paths() {
    local found
    found=$(find . -path ./.git -prune -o -path './build*' -prune -o -path ./runs -prune -o -type f \
        -size -1024k -print0 | xargs -0 grep -nIE '/wor[k]/|/hom[e]/[a-z]|/tmp/buil[d]-|/roo[t]/' \
        /dev/null)
    found+=$(find . -path ./.git -prune -o -path './build*' -prune -o -path ./runs -prune -o -type l -lname '/*' \
        -printf '%p:1: leads to %l\n')
    [ -z "$found" ] || { echo "$found"; return 1; }
}

# Every row of keys.def is read somewhere: a key that nothing reads promises what nothing does.
keys() {
    local bad=0 key
    while read -r key; do
        grep -rqE "\b$key\b" --include='*.c' --include='*.h' jobs src --exclude-dir=config && continue
        echo "src/config/keys.def:1: nothing reads $key"
        bad=1
    done < <(sed -nE 's/^CONFIG_TOP\(([a-z0-9_]+),.*/KEY_\1/p; s/^CONFIG_KEY\(([a-z0-9_]+), *([a-z0-9_]+),.*/KEY_\1_\2/p' src/config/keys.def)
    return $bad
}

# What CONTRIBUTING.md's table names is there, <name> standing for some name; so is every configuration that a document names.
# shellcheck disable=SC2001,SC2016
places() {
    local bad=0 path file
    while read -r path; do
        compgen -G "$(sed 's/<[a-z]*>/*/g' <<<"$path")" >/dev/null && continue
        echo "CONTRIBUTING.md:1: there is no $path"
        bad=1
    done < <(sed -n '/^| X /,/^$/p' CONTRIBUTING.md | grep -oE '`[^` ]+/[^` ]*`' | tr -d '`' | sort -u)
    while IFS=: read -r file line path; do
        [[ $path =~ /(SET|ROW)\.cfg$ ]] || [ -e "$path" ] || { echo "$file:$line: there is no $path"; bad=1; }
    done < <(find . -name build\* -prune -o -path ./runs -prune -o -name '*.md' -exec grep -noHE '\bconfigs/[A-Za-z0-9_/-]+\.cfg' {} +)
    return $bad
}

# What the documents call by its name alone can be called so; then shellcheck.
shell() {
    local bad=0 file
    while read -r file; do
        [ "$(head -c 2 "$file")" != '#!' ] || [ -x "$file" ] || { echo "$file:1: chmod +x"; bad=1; }
    done < <(git ls-files '*.sh' '*.py')
    [ $bad = 0 ] || return 1
    command -v shellcheck >/dev/null || { echo "skipped: no shellcheck here"; return 77; }
    { git ls-files 'jobs/*.sh' 'tests/*.sh' 'slurm/*.sh' 'slurm/*.sbatch' 'packaging/*.sh' 'packaging/bash-completion/*'; echo .ci/run; } |
        xargs shellcheck -x -e SC2317 # "unreachable": functions that are passed by name
}

format() {
    clang-format --version 2>/dev/null | grep -q 'version 14\.' ||
        { echo "skipped: no clang-format 14 here"; return 77; }
    find src jobs tests include -name '*.[ch]' | sort | xargs clang-format --dry-run -Werror 2>&1 |
        { grep -E 'error:' || true; }
    return "${PIPESTATUS[2]}" # clang-format's, through xargs
}

case ${1:-} in
rooms | vendors | headers | calls | paths | keys | places | shell | format) "$1" ;;
*) echo "lint.sh: unknown rule '${1:-}'" >&2; exit 2 ;;
esac

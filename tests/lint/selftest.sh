#!/bin/bash
# Each lint rule must find the offence planted for it, and nothing in a clean tree.
set -euo pipefail
lint=$PWD/tests/lint/lint.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
cd "$tree"
failed=0

clean() {
    rm -rf "$tree"/{src,jobs,tests,include,slurm,.ci}
    mkdir -p src/base src/graph src/store src/comm src/config jobs tests include slurm .ci
    printf '#!/bin/bash\ntrue\n' >.ci/run
    printf '#ifndef MD_BASE_A_H\n#define MD_BASE_A_H\nint a(void);\n#endif\n' >src/base/a.h
    # What looks like an offence but is none: in a comment, in a string, a method of that name.
    cat >src/base/a.c <<'END'
#include "base/a.h"
/* printf("x"); exit(1);
   MPI_Send */
int a(void) { return sizeof "abort()" > 1; } // assert(0)
END
    echo '#include "base/a.h"' >src/graph/g.c
    # shellcheck disable=SC2016
    printf 'CONFIG_TOP(run, STRING(""), FREE, "x")\n' >src/config/keys.def
    echo 'int x = KEY_run;' >jobs/j.c
    # shellcheck disable=SC2016
    printf '| X | places |\n| job | `jobs/<name>.c` |\n' >CONTRIBUTING.md
}

# expect RULE TEXT: the rule fails and says TEXT.
expect() {
    local out
    if out=$(bash "$lint" "$1" 2>&1); then
        echo "$1: did not find: $2"
        failed=1
    elif [[ $out != *"$2"* ]]; then
        echo "$1: wanted \"$2\", got: $out"
        failed=1
    fi
}

clean
for rule in rooms vendors headers calls paths keys places; do
    bash "$lint" $rule || { echo "$rule: fails on a clean tree"; failed=1; }
done
echo '#include "graph/g.h"' >>src/base/a.c
expect rooms 'src/base/a.c:5: base (0) includes graph/g.h (1)'
clean
echo '#include "a.h"' >>src/base/a.c
expect rooms '"a.h" without its room'
clean
mkdir -p src/nowhere && echo '#include "base/a.h"' >src/nowhere/n.c
expect rooms 'nowhere is no room'
clean
echo '#include <hdf5.h>' >>src/base/a.c
expect vendors 'src/base/a.c:5: <hdf5.h> belongs to src/store only'
clean
echo 'int f(void) { return MPI_COMM_WORLD; }' >src/store/s.c
expect vendors 'src/store/s.c:1:'
clean
printf '#ifndef MD_BASE_B_H\n#define MD_BASE_B_H\nsize_t b(void);\n#endif\n' >src/base/b.h
expect headers 'src/base/b.h:1: does not compile alone'
clean
echo 'int b(void);' >src/base/b.h
expect headers 'src/base/b.h:1: no guard'
for call in 'exit(1)' 'abort()' 'assert(1)' 'printf("x")' 'fprintf(stderr, "x")' 'perror("x")'; do
    clean
    echo "void f(void) { $call; }" >>src/graph/g.c
    expect calls 'src/graph/g.c:2:'
done
clean
echo '/* see /hom''e/someone/x */' >>src/base/a.c
expect paths 'src/base/a.c:5:'
clean
ln -s /elsewhere src/base/link
expect paths 'src/base/link:1: leads to /elsewhere'
clean
echo 'CONFIG_KEY(data, root, STRING(""), FREE, "x")' >>src/config/keys.def
expect keys 'nothing reads KEY_data_root'
clean
# shellcheck disable=SC2016
echo '| y | `src/nowhere/<name>.c` |' >>CONTRIBUTING.md
expect places 'there is no src/nowhere/<name>.c'
clean
echo 'see configs/nowhere.cfg, configs/x/SET.cfg' >>CONTRIBUTING.md
expect places 'CONTRIBUTING.md:3: there is no configs/nowhere.cfg'
if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    clean
    find . -name '*.[ch]' -exec clang-format -i {} +
    bash "$lint" format || { echo "format: fails on a clean tree"; failed=1; }
    echo 'int  f ;' >>src/graph/g.c
    expect format 'src/graph/g.c:2:'
fi
exit $failed

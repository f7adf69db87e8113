/* test_gpu_ops DEVICE [--seed N] [--small] [--skip] [FAMILY...]: every row of tests/ops on a device
   against ref, f32 and bf16, forward and backward nodes one by one. DEVICE: cuda, cpu, hidden (the
   CPU behind a wall), or hidden-FAULT with FAULT guard, input, skip or value: every row must then
   fail. --small leaves realistic sizes out (for compute-sanitizer), --skip ends with 77 where there
   is no such device. */
#include "backend/open.h"
#include "backend/ref/ref.h"
#include "hidden.h"
#include "ops_test.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const faults[] = {"hidden", "hidden-guard", "hidden-input", "hidden-skip",
                                     "hidden-value"};

typedef struct run {
    md_backend *ref, *tested;
    uint64_t seed;
    bool small;
    int n_families;
    const char *families[16];
    int rows, failed, seen[2][MD_OP_COUNT]; /* f32, bf16 */
    double worst[2][MD_OP_COUNT];
} run;

static md_status open_device(const char *name, md_backend **out)
{
    for (int i = 0; i < (int)(sizeof faults / sizeof *faults); i++)
        if (!strcmp(name, faults[i]))
            return hidden_backend_open((hidden_fault)i, out);
    const backend_options o = {
        .device = name, .threads = 2, .sharing = 1, .workspace_mib = 512, .deterministic = true};
    return backend_open(&o, out);
}

static bool wanted(const run *r, const op_family *f)
{
    for (int i = 0; i < r->n_families; i++)
        if (!strcmp(r->families[i], f->name))
            return true;
    return r->n_families == 0;
}

static void run_row(run *r, const op_family *f, int row, int type, int shift)
{
    op_compare o = {.oracle = r->ref,
                    .tested = r->tested,
                    .with_grad = f->rows[row].flags & GRAD,
                    .shift = shift,
                    .seed = r->seed,
                    .seen = r->seen[type],
                    .worst = r->worst[type]};
    r->rows++;
    if (op_compare_run(&o, f, row, type ? MD_BF16 : MD_F32) != MD_OK) {
        r->failed++;
        printf("FAILED, shift %d: %s\n", shift, md_status_text());
    }
}

/* A plan keeps a tensor where its description says, and a device's libraries choose their ways by
   that: rows moved off it are for our own kernels, which look at the address. */
static bool may_shift(const run *r, const op_family *f)
{
    static const char *const by_library[] = {"linear", "conv", "attention", "compound"};
    for (size_t i = 0; r->tested->ops->queues && i < sizeof by_library / sizeof *by_library; i++)
        if (!strcmp(f->name, by_library[i]))
            return false;
    return true;
}

static void run_family(run *r, const op_family *f)
{
    for (int row = 0; row < f->n; row++) {
        int flags = f->rows[row].flags;
        for (int type = 0; type < 2; type++)
            for (int shift = 0; shift < (flags & BIG || !may_shift(r, f) ? 1 : 2); shift++)
                if ((type == 0 || flags & BF16) && !(r->small && flags & BIG))
                    run_row(r, f, row, type, shift);
    }
}

/* Returns how many ops were never compared, where that is asked for. */
static int print_table(const run *r)
{
    int missing = 0;
    printf("%-20s %6s %10s %6s %10s\n", "op", "f32", "error", "bf16", "error");
    for (int op = 0; op < MD_OP_COUNT; op++) {
        if (r->seen[0][op] || r->seen[1][op])
            printf("%-20s %6d %10.2g %6d %10.2g\n", md_op_name((md_op)op), r->seen[0][op],
                   r->worst[0][op], r->seen[1][op], r->worst[1][op]);
        else if (r->n_families == 0) {
            printf("%s was never compared\n", md_op_name((md_op)op));
            missing++;
        }
    }
    return missing;
}

static int run_all(run *r, bool must_fail)
{
    for (int i = 0; i < op_n_families; i++)
        if (wanted(r, op_families[i]))
            run_family(r, op_families[i]);
    int missing = must_fail ? 0 : print_table(r);
    printf("%s against ref, inputs' seed %llu: %d of %d runs failed%s\n", r->tested->ops->name,
           (unsigned long long)r->seed, r->failed, r->rows, must_fail ? "; all should" : "");
    if (r->rows == 0)
        return 1;
    return must_fail ? r->failed != r->rows : r->failed || missing;
}

int main(int argc, char **argv)
{
    run r = {0};
    bool skip = false;
    const char *device = argc > 1 ? argv[1] : "cuda";
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            r.seed = strtoull(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--small"))
            r.small = true;
        else if (!strcmp(argv[i], "--skip"))
            skip = true;
        else if (r.n_families < 16)
            r.families[r.n_families++] = argv[i];
    }
    if (ref_backend_open(&r.ref) != MD_OK || open_device(device, &r.tested) != MD_OK) {
        printf("%s: %s\n", skip ? "skipped" : "test_gpu_ops", md_status_text());
        return skip ? 77 : 1;
    }
    int failed = run_all(&r, !strncmp(device, "hidden-", 7));
    r.tested->ops->close(r.tested);
    r.ref->ops->close(r.ref);
    return failed;
}

/* cpu against ref on every row, f32 and bf16, forward and backward nodes one by one. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "ops_cmocka.h"
#include <stdlib.h>

static md_backend *ref, *cpu;
static op_tally tally;

static int open_backends(void **state)
{
    (void)state;
    OK(ref_backend_open(&ref));
    OK(cpu_backend_open(&cpu, 2));
    return 0;
}

/* Every op has met the reference, in bf16 too where it takes it. */
static int close_backends(void **state)
{
    (void)state;
    int missing = 0;
    print_message("%-20s %6s %10s %6s %10s\n", "op", "f32", "error", "bf16", "error");
    for (int op = 0; op < MD_OP_COUNT; op++) {
        bool f32_only = op == MD_OP_adamw || op == MD_OP_ema || op == MD_OP_timestep_embedding;
        print_message("%-20s %6d %10.2g %6d %10.2g\n", md_op_name(op), tally.seen[0][op],
                      tally.worst[0][op], tally.seen[1][op], tally.worst[1][op]);
        if (!tally.seen[0][op] || (!tally.seen[1][op] && !f32_only)) {
            print_error("%s was never compared\n", md_op_name(op));
            missing++;
        }
    }
    cpu->ops->close(cpu);
    ref->ops->close(ref);
    return missing;
}

static md_status run(const op_family *f, int row)
{
    return op_compare_row(ref, cpu, f, row, &tally);
}

int main(void)
{
    return op_run_families("cpu against ref", run, open_backends, close_backends) ? 1 : 0;
}

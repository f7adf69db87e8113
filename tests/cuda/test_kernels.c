/* The own kernels of backend/cuda, run on the host, against ref: every row of tests/ops, f32 and
   bf16, forward and backward nodes one by one. */
#include "backend/ref/ref.h"
#include "ops_cmocka.h"
#include "sim.h"

static md_backend *ref, *sim;
static op_tally tally;

static int open_backends(void **state)
{
    (void)state;
    OK(ref_backend_open(&ref));
    OK(sim_backend_open(&sim));
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    print_message("%-20s %6s %10s %6s %10s\n", "op", "f32", "error", "bf16", "error");
    int missing = 0;
    for (int op = 0; op < MD_OP_COUNT; op++) {
        print_message("%-20s %6d %10.2g %6d %10.2g\n", md_op_name(op), tally.seen[0][op],
                      tally.worst[0][op], tally.seen[1][op], tally.worst[1][op]);
        bool vendor = op == MD_OP_linear || op == MD_OP_matmul || op == MD_OP_conv2d ||
                      op == MD_OP_conv2d_dx || op == MD_OP_conv2d_dw;
        if (!sim_has_kernel((md_op)op) && !vendor) {
            print_error("%s has no kernel\n", md_op_name((md_op)op));
            missing++;
        }
        missing += !tally.seen[0][op] && !tally.seen[1][op];
    }
    sim->ops->close(sim);
    ref->ops->close(ref);
    return missing;
}

static md_status run(const op_family *f, int row)
{
    return op_compare_row(ref, sim, f, row, &tally);
}

int main(void)
{
    return op_run_families("cuda kernels against ref", run, open_backends, close_backends) ? 1 : 0;
}

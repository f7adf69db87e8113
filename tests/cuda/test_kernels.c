/* The own kernels of backend/cuda, run on the host, against ref: every row of tests/ops, f32 and
   bf16, forward and backward nodes one by one. */
#include "backend/ref/ref.h"
#include "ops_cmocka.h"
#include "sim.h"

static md_backend *ref, *sim;
static int seen[2][MD_OP_COUNT];
static double worst[2][MD_OP_COUNT];

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
        print_message("%-20s %6d %10.2g %6d %10.2g\n", md_op_name(op), seen[0][op], worst[0][op],
                      seen[1][op], worst[1][op]);
        bool vendor = op == MD_OP_linear || op == MD_OP_matmul || op == MD_OP_conv2d ||
                      op == MD_OP_conv2d_dx || op == MD_OP_conv2d_dw;
        if (!sim_has_kernel((md_op)op) && !vendor) {
            print_error("%s has no kernel\n", md_op_name((md_op)op));
            missing++;
        }
        missing += !seen[0][op] && !seen[1][op];
    }
    sim->ops->close(sim);
    ref->ops->close(ref);
    return missing;
}

static md_status run(const op_family *f, int row)
{
    const op_case *c = &f->rows[row];
    for (int d = 0; d < 2; d++) {
        if (d == 1 && !(c->flags & BF16))
            continue;
        for (int shift = 0; shift < (c->flags & BIG ? 1 : 2); shift++) {
            op_compare o = {.oracle = ref,
                            .tested = sim,
                            .with_grad = c->flags & GRAD,
                            .shift = shift,
                            .seen = seen[d],
                            .worst = worst[d]};
            MD_TRY(op_compare_run(&o, f, row, d ? MD_BF16 : MD_F32));
        }
    }
    return MD_OK;
}

int main(void)
{
    return op_run_families("cuda kernels against ref", run, open_backends, close_backends) ? 1 : 0;
}

/* Generation must give the same bytes on any number of workers, so a forward op must not depend on
   the number of threads: every element equal with one, two and three. */
#include "backend/cpu/cpu.h"
#include "ops_cmocka.h"

static md_backend *one, *other;

static int close_backends(void **state)
{
    (void)state;
    one->ops->close(one);
    other->ops->close(other);
    return 0;
}

static int threads = 2;

static int open_backends(void **state)
{
    (void)state;
    OK(cpu_backend_open(&one, 1));
    OK(cpu_backend_open(&other, threads));
    return 0;
}

static md_status run(const op_family *f, int row)
{
    const op_case *c = &f->rows[row];
    if (!(c->flags & ANY_THREADS))
        return MD_OK;
    op_compare o = {.oracle = one, .tested = other, .equal = true};
    MD_TRY(op_compare_run(&o, f, row, MD_F32));
    if (c->flags & BF16)
        MD_TRY(op_compare_run(&o, f, row, MD_BF16));
    return MD_OK;
}

int main(void)
{
    int failed = 0;
    for (threads = 2; threads <= 3; threads++)
        failed += op_run_families(threads == 2 ? "1 against 2 threads" : "1 against 3 threads", run,
                                  open_backends, close_backends);
    return failed ? 1 : 0;
}

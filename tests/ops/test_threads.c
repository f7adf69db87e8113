/* Generation must give the same bytes on any number of workers: a forward op may depend neither on
   the number of threads nor on a sample's place and company in its batch. Every element equal. */
#include "backend/cpu/cpu.h"
#include "graph/plan.h"
#include "ops_cmocka.h"
#include <stdlib.h>
#include <string.h>

static md_backend *one, *other;
static int threads;

static int open_backends(void **state)
{
    (void)state;
    OK(cpu_backend_open(&one, 1));
    OK(cpu_backend_open(&other, threads));
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    one->ops->close(one);
    other->ops->close(other);
    return 0;
}

static md_status any_threads(const op_family *f, int row)
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

/* The same samples as before in the opposite order. */
static void reverse(float *x, const md_tensor *t)
{
    size_t n = (size_t)t->dim[0], size = (size_t)md_numel(t) / n * sizeof *x;
    char *p = (char *)x, *swap = malloc(size);
    for (size_t i = 0; swap && i < n / 2; i++) {
        memcpy(swap, p + i * size, size);
        memcpy(p + i * size, p + (n - 1 - i) * size, size);
        memcpy(p + (n - 1 - i) * size, swap, size);
    }
    free(swap);
}

/* Inputs of more than one dim whose first is the batch: images and tokens, but no weights. */
static bool has_batch(const op_case *c, const op_graph *o, int i)
{
    bool weight = (i == 1 || i == 2) && (c->op == MD_OP_conv2d || c->op == MD_OP_linear);
    return o->in[i]->ndim > 1 && o->in[i]->dim[0] == o->y->dim[0] && !weight;
}

static md_status run_order(const op_case *c, const op_graph *o, md_plan *plan, uint64_t seed,
                           bool reversed, float *y)
{
    for (int i = 0; i < o->n_in; i++) {
        if (!o->in[i])
            continue;
        int64_t n = md_numel(o->in[i]);
        double *x = malloc((size_t)n * sizeof *x);
        float *f = malloc((size_t)n * sizeof *f);
        md_status status = x && f ? MD_OK : MD_NOMEM;
        if (status == MD_OK) {
            op_case_fill(c, i, o->in[i], seed, x);
            for (int64_t k = 0; k < n; k++)
                f[k] = (float)x[k];
            if (reversed && has_batch(c, o, i))
                reverse(f, o->in[i]);
            status = md_plan_write(plan, o->in[i], f, MD_F32, n);
        }
        free(x);
        free(f);
        MD_TRY(status);
    }
    MD_TRY(md_plan_run(plan));
    return md_plan_read(plan, o->y, y, MD_F32, md_numel(o->y));
}

/* Ops over [N, ...] whose samples have nothing to do with each other. */
static bool by_sample(const op_case *c)
{
    return (c->op == MD_OP_conv2d || c->op == MD_OP_linear || c->op == MD_OP_group_norm ||
            c->op == MD_OP_layer_norm || c->op == MD_OP_attention || c->op == MD_OP_geglu ||
            c->op == MD_OP_act || c->op == MD_OP_upsample2x || c->op == MD_OP_add) &&
           c->a.ndim > 1 && c->a.dim[0] > 1 && !c->build;
}

static int n_by_sample;

static md_status any_company(const op_family *f, int row)
{
    const op_case *c = &f->rows[row];
    op_graph o;
    md_plan *plan = NULL;
    float *y = NULL, *z = NULL;
    md_status status;
    if (!by_sample(c))
        return MD_OK;
    MD_TRY_GOTO(op_graph_build(f, c, MD_F32, false, &o), done);
    MD_TRY_GOTO(md_plan_build(o.g, other, &o.y, 1, &plan), done);
    MD_TRY_GOTO(md_plan_load(plan), done);
    size_t bytes = (size_t)md_numel(o.y) * sizeof *y;
    y = malloc(bytes);
    z = malloc(bytes);
    if (!y || !z) {
        status = MD_NOMEM;
        goto done;
    }
    MD_TRY_GOTO(run_order(c, &o, plan, op_case_seed(f, row), false, y), done);
    MD_TRY_GOTO(run_order(c, &o, plan, op_case_seed(f, row), true, z), done);
    reverse(z, o.y);
    if (memcmp(y, z, bytes) != 0)
        status = md_fail(MD_INTERNAL, __FILE__, __LINE__, "a sample depends on its place");
    n_by_sample++;
done:
    md_plan_free(plan);
    op_graph_free(&o);
    free(y);
    free(z);
    return status == MD_OK ? status : md_context(status, "%s", op_case_text(f, row, MD_F32));
}

int main(void)
{
    int failed = 0;
    for (threads = 2; threads <= 3; threads++)
        failed += op_run_families(threads == 2 ? "1 against 2 threads" : "1 against 3 threads",
                                  any_threads, open_backends, close_backends);
    threads = 2;
    failed += op_run_families("place in the batch", any_company, open_backends, close_backends);
    return failed || n_by_sample < 30 ? 1 : 0;
}

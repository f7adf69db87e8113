/* md_grad against central differences, in double, through plans on the ref backend. */
#include "backend/ref/ref.h"
#include "graph/plan.h"
#include "ops_cmocka.h"
#include <math.h>
#include <stdlib.h>

enum { MAX_ELEMENTS = 4096, PROBES = 96 /* elements of an input that are moved */ };
static const double step = 1e-5, tolerance = 1e-6;

static md_backend *ref;

static int open_backend(void **state)
{
    (void)state;
    OK(ref_backend_open(&ref));
    return 0;
}

static int close_backend(void **state)
{
    (void)state;
    int leaked = ref->allocated_bytes != 0;
    if (leaked)
        print_error("%zu bytes of plans and buffers were not released\n", ref->allocated_bytes);
    ref->ops->close(ref);
    return leaked;
}

typedef struct probe {
    op_graph o;
    md_plan *with_grad, *loss_only;
    double x[OPS_MAX_IN + 1][MAX_ELEMENTS];
    double grad[OPS_MAX_IN][MAX_ELEMENTS];
} probe;

static const md_tensor *input(const probe *p, int i)
{
    return i < OPS_MAX_IN ? p->o.in[i] : p->o.w;
}

static md_status write_input(probe *p, md_plan *plan, int i)
{
    const md_tensor *t = input(p, i);
    int64_t n = md_numel(t);
    if (t->storage == MD_EXTERN)
        return md_buffer_write(ref, &p->o.buf[i], 0, p->x[i], MD_F64, n);
    if (t->dtype != MD_I32)
        return md_plan_write(plan, t, p->x[i], MD_F64, n);
    int32_t ids[MAX_ELEMENTS];
    for (int64_t k = 0; k < n; k++)
        ids[k] = (int32_t)p->x[i][k];
    return md_plan_write(plan, t, ids, MD_I32, n);
}

/* Whether the plan kept the tensor: an input that nothing reads has no place in it. */
static bool used_by_forward(const op_graph *o, const md_tensor *t)
{
    for (int i = 0; i < md_graph_n_nodes(o->g); i++) {
        const md_node *n = md_graph_node(o->g, i);
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] && (n->in[k] == t || n->in[k]->base == t))
                return true;
    }
    return false;
}

static md_status prepare(probe *p, const op_family *f, int row)
{
    const op_case *c = &f->rows[row];
    md_tensor *outputs[OPS_MAX_IN + 1];
    int n = 0;
    MD_TRY(op_graph_build(f, c, MD_F32, true, &p->o));
    outputs[n++] = p->o.loss;
    for (int i = 0; i < OPS_MAX_IN; i++)
        if (p->o.grad[i])
            outputs[n++] = p->o.grad[i];
    for (int i = 0; i <= OPS_MAX_IN; i++) {
        if (!input(p, i))
            continue;
        if (md_numel(input(p, i)) > MAX_ELEMENTS || !used_by_forward(&p->o, input(p, i)))
            MD_FAIL(MD_INTERNAL, "input %d %s is too large for this test, or unused", i,
                    md_shape_text(input(p, i)));
        op_case_fill(c, i, input(p, i), op_case_seed(f, row), p->x[i]);
        if (input(p, i)->storage == MD_EXTERN)
            MD_TRY(md_buffer_alloc(ref, &p->o.buf[i]));
    }
    MD_TRY(md_plan_build(p->o.g, ref, outputs, n, &p->with_grad));
    MD_TRY(md_plan_load(p->with_grad));
    MD_TRY(md_plan_build(p->o.g, ref, &p->o.loss, 1, &p->loss_only));
    MD_TRY(md_plan_load(p->loss_only));
    for (int i = 0; i <= OPS_MAX_IN; i++) {
        if (!input(p, i))
            continue;
        MD_TRY(write_input(p, p->with_grad, i));
        MD_TRY(write_input(p, p->loss_only, i));
    }
    MD_TRY(md_plan_run(p->with_grad));
    for (int i = 0; i < OPS_MAX_IN; i++)
        if (p->o.grad[i])
            MD_TRY(
                md_plan_read(p->with_grad, p->o.grad[i], p->grad[i], MD_F64, md_numel(p->o.in[i])));
    return MD_OK;
}

static md_status loss_at(probe *p, int i, int64_t k, double x, double *loss)
{
    double old = p->x[i][k];
    p->x[i][k] = x;
    md_status status = write_input(p, p->loss_only, i);
    p->x[i][k] = old;
    MD_TRY(status);
    MD_TRY(md_plan_run(p->loss_only));
    return md_plan_read(p->loss_only, p->o.loss, loss, MD_F64, 1);
}

static md_status check_input(probe *p, int i)
{
    int64_t n = md_numel(p->o.in[i]), stride = (n + PROBES - 1) / PROBES;
    double max = 0;
    if (!p->o.grad[i] || !md_same_shape(p->o.grad[i], p->o.in[i]))
        MD_FAIL(MD_INTERNAL, "input %d: no gradient, or one of another shape", i);
    for (int64_t k = 0; k < n; k++)
        max = fmax(max, fabs(p->grad[i][k]));
    for (int64_t k = 0; k < n; k += stride) {
        double up = 0, down = 0;
        MD_TRY(loss_at(p, i, k, p->x[i][k] + step, &up));
        MD_TRY(loss_at(p, i, k, p->x[i][k] - step, &down));
        double want = (up - down) / (2 * step);
        /* 1e-9: what rounding leaves of a gradient that is zero by algebra */
        if (!(fabs(p->grad[i][k] - want) <= tolerance * max + 1e-9))
            MD_FAIL(MD_INTERNAL,
                    "input %d %s: gradient of element %lld is %.12g, differences say %.12g", i,
                    md_shape_text(p->o.in[i]), (long long)k, p->grad[i][k], want);
    }
    return write_input(p, p->loss_only, i);
}

static md_status run(const op_family *f, int row)
{
    const op_case *c = &f->rows[row];
    md_status status = MD_OK;
    if (!(c->flags & GRAD) || c->flags & BIG)
        return MD_OK;
    probe *p = calloc(1, sizeof *p);
    if (!p)
        MD_FAIL(MD_NOMEM, "out of memory");
    MD_TRY_GOTO(prepare(p, f, row), done);
    for (int i = 0; i < OPS_MAX_IN; i++)
        if (p->o.in[i] && p->o.in[i]->dtype != MD_I32)
            MD_TRY_GOTO(check_input(p, i), done);
done:
    md_plan_free(p->with_grad);
    md_plan_free(p->loss_only);
    for (int i = 0; i < OPS_MAX_IN; i++)
        md_buffer_release(ref, &p->o.buf[i]);
    op_graph_free(&p->o);
    free(p);
    return status == MD_OK ? status : md_context(status, "%s", op_case_text(f, row, MD_F32));
}

int main(void)
{
    return op_run_families("finite differences", run, open_backend, close_backend) ? 1 : 0;
}

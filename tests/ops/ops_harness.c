/* Rows to graphs, and the numbers that go in. */
#include "ops/grad.h"
#include "ops_test.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

extern const op_family ops_elementwise, ops_reduce, ops_linear, ops_conv, ops_norm, ops_attention,
    ops_shape, ops_embed, ops_update, ops_chain, ops_compound;

const op_family *const op_families[] = {&ops_elementwise, &ops_reduce,    &ops_linear,  &ops_conv,
                                        &ops_norm,        &ops_attention, &ops_shape,   &ops_embed,
                                        &ops_update,      &ops_chain,     &ops_compound};
const int op_n_families = (int)(sizeof op_families / sizeof op_families[0]);

static md_dtype type_of(const op_case *c, int i, md_dtype run)
{
    const struct {
        unsigned mask;
        md_dtype type;
    } fixed[] = {{c->i32, MD_I32}, {c->f32, MD_F32}, {c->bf16, MD_BF16}, {c->u8, MD_U8}};
    for (int k = 0; k < 4; k++)
        if (fixed[k].mask >> i & 1)
            return fixed[k].type;
    return run;
}

md_status op_graph_build(const op_family *f, const op_case *c, md_dtype dtype, bool with_grad,
                         op_graph *o)
{
    const op_shape *shape[OPS_MAX_IN] = {&c->a, &c->b, &c->c, &c->d, &c->e,
                                         &c->f, &c->g, &c->h, &c->i};
    memset(o, 0, sizeof *o);
    MD_TRY(md_graph_new(&o->g));
    md_tensor *wrt[OPS_MAX_IN], *grad[OPS_MAX_IN];
    int n_wrt = 0;
    for (int i = 0; i < OPS_MAX_IN; i++) {
        if (!shape[i]->ndim)
            continue;
        md_dtype d = type_of(c, i, dtype);
        o->n_in = i + 1;
        if (c->persistent >> i & 1) {
            md_tensor size = {.ndim = shape[i]->ndim};
            memcpy(size.dim, shape[i]->dim, sizeof size.dim);
            md_buffer_init(&o->buf[i], "persistent", d, md_numel(&size));
            o->in[i] = md_extern(o->g, &o->buf[i], 0, shape[i]->ndim, shape[i]->dim);
        } else {
            o->in[i] = md_input(o->g, "in", d, shape[i]->ndim, shape[i]->dim);
        }
        if (d != MD_I32 && d != MD_U8)
            wrt[n_wrt++] = o->in[i];
    }
    o->y = (c->build ? c->build : f->build)(c, o->in);
    MD_TRY(md_graph_check(o->g));
    o->n_forward = md_graph_n_nodes(o->g);
    if (!with_grad)
        return MD_OK;
    o->w = md_input(o->g, "w", o->y->dtype, o->y->ndim, o->y->dim);
    o->loss = md_sum(md_mul(o->y, o->w));
    MD_TRY(md_grad(o->loss, wrt, n_wrt, 0, grad));
    for (int i = 0, k = 0; i < o->n_in; i++)
        if (o->in[i] && k < n_wrt && o->in[i] == wrt[k])
            o->grad[i] = grad[k++];
    return md_graph_check(o->g);
}

void op_graph_free(op_graph *o)
{
    md_graph_free(o->g);
    o->g = NULL;
}

uint64_t op_case_seed(const op_family *f, int row)
{
    uint64_t h = 20240607;
    for (const char *s = f->name; *s; s++)
        h = h * 131 + (unsigned char)*s;
    return h * 1000003 + (uint64_t)row;
}

const char *op_case_text(const op_family *f, int row, md_dtype dtype)
{
    static char text[160];
    snprintf(text, sizeof text, "%s[%d] %s %s (seed %llu)", f->name, row,
             md_op_name(f->rows[row].op), md_dtype_name(dtype),
             (unsigned long long)op_case_seed(f, row));
    return text;
}

/* Steele, Lea, Flood 2014 */
static uint64_t splitmix64(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double op_normal(uint64_t *state) /* Box-Muller, one of the two */
{
    double u = ((double)(splitmix64(state) >> 11) + 0.5) / 9007199254740992.0;
    double v = (double)(splitmix64(state) >> 11) / 9007199254740992.0;
    return sqrt(-2 * log(u)) * cos(2 * acos(-1.0) * v);
}

double op_round(md_dtype dtype, double x)
{
    if (dtype == MD_F32)
        return (double)(float)x;
    if (dtype != MD_BF16 || !isfinite(x))
        return x;
    int e;
    double m = frexp(x, &e); /* 8 significant bits */
    return ldexp(nearbyint(ldexp(m, 8)), e - 8);
}

void op_case_fill(const op_case *c, int i, const md_tensor *t, uint64_t seed, double *x)
{
    int64_t n = md_numel(t);
    uint64_t state = seed * 31 + (uint64_t)i;
    for (int64_t k = 0; k < n; k++) {
        if (t->dtype == MD_I32)
            x[k] = (double)(splitmix64(&state) % (uint64_t)(c->len ? c->len : 100));
        else if (t->dtype == MD_U8)
            x[k] = (double)(splitmix64(&state) % 255);
        else
            x[k] = (i < OPS_MAX_IN ? c->offset : 0) +
                   (i < OPS_MAX_IN && c->scale != 0 ? c->scale : 1) * op_normal(&state);
    }
    if (c->fill && i < OPS_MAX_IN)
        c->fill(c, i, x, n);
    for (int64_t k = 0; k < n; k++)
        x[k] = op_round(t->dtype, x[k]);
}

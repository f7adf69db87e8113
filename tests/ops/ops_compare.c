/* Node by node on two backends, see ops_test.h. Memory of a backend is touched through its own
   write and read only, so that `tested` may be a device. */
#include "ops_test.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, GUARD_BYTE = 0xa5, NAN_BYTE = 0xff }; /* 0xff..: NaN in every float type */

/* Relative to the largest element. */
static double tolerance(md_dtype dtype)
{
    return dtype == MD_BF16 ? 2e-2 : 1e-5;
}

/* A filter's gradient adds up all pixels, and a library may do so in one chain: its rounding errors
   are a random walk of that many steps, each of at most half an ulp of the largest partial sum. */
static double chain_tolerance(const md_node *n)
{
    if (n->op != MD_OP_conv2d_dw)
        return 0;
    const md_tensor *dy = n->in[0];
    return 6 * sqrt((double)md_numel(dy) / (double)dy->dim[3]) * ldexp(1, -24);
}

typedef struct slot {      /* one tensor that is not a view */
    char *oracle, *tested; /* the data */
    char *block;           /* the allocation around `tested` */
    size_t bytes;          /* of `tested` */
} slot;

typedef struct lockstep {
    const op_compare *o;
    const op_case *c;
    op_graph graph;
    md_dtype dtype;
    slot *slots; /* by tensor id */
    int n_slots;
    double *want, *got;
} lockstep;

/* Bytes as they are; U8 is what no backend converts. */
static md_status put_bytes(md_backend *be, void *dst, const void *host, size_t n)
{
    return n ? be->ops->write(be, dst, MD_U8, host, MD_U8, (int64_t)n) : MD_OK;
}

static md_status get_bytes(md_backend *be, const void *src, void *host, size_t n)
{
    return n ? be->ops->read(be, src, MD_U8, host, MD_U8, (int64_t)n) : MD_OK;
}

static md_status set_bytes(md_backend *be, char *dst, int byte, size_t n)
{
    static char same[1 << 20];
    memset(same, byte, n < sizeof same ? n : sizeof same);
    for (size_t at = 0; at < n; at += sizeof same)
        MD_TRY(put_bytes(be, dst + at, same, n - at < sizeof same ? n - at : sizeof same));
    return MD_OK;
}

/* A guarded block of the tested backend, data shifted off the alignment. */
static md_status guarded(md_backend *be, size_t bytes, size_t shift, char **block, char **data)
{
    void *p;
    MD_TRY(be->ops->alloc(be, bytes + shift + 2 * GUARD, &p));
    *block = p;
    *data = *block + GUARD + shift;
    return set_bytes(be, *block, GUARD_BYTE, bytes + shift + 2 * GUARD);
}

static md_status all_guards(md_backend *be, const char *from, const char *to, bool *hold)
{
    while (from < to) {
        unsigned char here[GUARD];
        size_t n = to - from < GUARD ? (size_t)(to - from) : GUARD;
        MD_TRY(get_bytes(be, from, here, n));
        for (size_t i = 0; i < n; i++)
            *hold = *hold && here[i] == GUARD_BYTE;
        from += n;
    }
    return MD_OK;
}

static md_status guards_hold(md_backend *be, const char *block, const char *data, size_t bytes,
                             bool *hold)
{
    *hold = true;
    MD_TRY(all_guards(be, block, data, hold));
    return all_guards(be, data + bytes, data + bytes + GUARD, hold);
}

static char *address(const lockstep *l, const md_tensor *t, bool tested)
{
    const md_tensor *base = t->storage == MD_VIEW ? t->base : t;
    const md_backend *be = tested ? l->o->tested : l->o->oracle;
    char *p = tested ? l->slots[base->id].tested : l->slots[base->id].oracle;
    return t->storage == MD_VIEW ? p + (size_t)t->offset * be->ops->elem_bytes(t->dtype) : p;
}

/* Of the tested backend's t. */
static size_t bytes_of(const lockstep *l, const md_tensor *t)
{
    return (size_t)md_numel(t) * l->o->tested->ops->elem_bytes(t->dtype);
}

static md_status allocate(lockstep *l)
{
    md_graph *g = l->graph.g;
    int64_t most = 1;
    l->n_slots = md_graph_n_tensors(g);
    l->slots = calloc((size_t)l->n_slots, sizeof *l->slots);
    for (int i = 0; l->slots && i < l->n_slots; i++) {
        const md_tensor *t = md_graph_tensor(g, i);
        if (t->storage == MD_VIEW)
            continue;
        slot *s = &l->slots[i];
        size_t n = (size_t)md_numel(t), elem = l->o->tested->ops->elem_bytes(t->dtype);
        void *p;
        MD_TRY(l->o->oracle->ops->alloc(l->o->oracle, n * l->o->oracle->ops->elem_bytes(t->dtype),
                                        &p));
        s->oracle = p;
        s->bytes = n * elem;
        MD_TRY(guarded(l->o->tested, s->bytes, (size_t)l->o->shift * elem, &s->block, &s->tested));
        most = md_numel(t) > most ? md_numel(t) : most;
    }
    l->want = malloc((size_t)most * sizeof(double));
    l->got = malloc((size_t)most * sizeof(double));
    if (!l->slots || !l->want || !l->got)
        MD_FAIL(MD_NOMEM, "out of memory");
    return MD_OK;
}

static void release(lockstep *l)
{
    for (int i = 0; l->slots && i < l->n_slots; i++) {
        if (l->slots[i].oracle)
            l->o->oracle->ops->release(l->o->oracle, l->slots[i].oracle);
        if (l->slots[i].block)
            l->o->tested->ops->release(l->o->tested, l->slots[i].block);
    }
    free(l->slots);
    free(l->want);
    free(l->got);
    op_graph_free(&l->graph);
}

static bool is_whole(md_dtype dtype)
{
    return dtype == MD_I32 || dtype == MD_U8;
}

/* Writes doubles, of which I32 and U8 tensors take the whole part. */
static md_status put(md_backend *be, void *dst, md_dtype dtype, const double *x, int64_t n)
{
    if (!is_whole(dtype))
        return be->ops->write(be, dst, dtype, x, MD_F64, n);
    for (int64_t i = 0; i < n; i++) {
        int32_t word = (int32_t)x[i];
        uint8_t byte = (uint8_t)x[i];
        MD_TRY(be->ops->write(be, (char *)dst + i * (dtype == MD_U8 ? 1 : 4), dtype,
                              dtype == MD_U8 ? (void *)&byte : (void *)&word, dtype, 1));
    }
    return MD_OK;
}

static md_status get(md_backend *be, const void *src, md_dtype dtype, double *x, int64_t n)
{
    if (!is_whole(dtype))
        return be->ops->read(be, src, dtype, x, MD_F64, n);
    for (int64_t i = 0; i < n; i++) {
        int32_t word = 0;
        uint8_t byte = 0;
        MD_TRY(be->ops->read(be, (const char *)src + i * (dtype == MD_U8 ? 1 : 4), dtype,
                             dtype == MD_U8 ? (void *)&byte : (void *)&word, dtype, 1));
        x[i] = dtype == MD_U8 ? byte : word;
    }
    return MD_OK;
}

static md_status fill(lockstep *l, uint64_t seed)
{
    for (int i = 0; i <= OPS_MAX_IN; i++) {
        const md_tensor *t = i < OPS_MAX_IN ? l->graph.in[i] : l->graph.w;
        if (!t)
            continue;
        op_case_fill(l->c, i, t, seed, l->want);
        MD_TRY(put(l->o->oracle, address(l, t, false), t->dtype, l->want, md_numel(t)));
        MD_TRY(put(l->o->tested, address(l, t, true), t->dtype, l->want, md_numel(t)));
    }
    return MD_OK;
}

/* What a node writes: its outputs, and the persistent tensors that an update changes. */
static int written(const md_node *n, md_tensor **t)
{
    int count = 0;
    bool update = n->out[0]->storage == MD_VIEW;
    for (int i = 0; i < n->n_out; i++)
        t[count++] = n->out[i];
    for (int i = 0; update && i < n->n_in; i++)
        if (n->in[i] && n->in[i]->storage == MD_EXTERN)
            t[count++] = n->in[i];
    return count;
}

static double magnitude(const double *x, int64_t n)
{
    double m = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i]))
            m = fmax(m, fabs(x[i]));
    return m;
}

static double root_mean_square(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum / (double)n);
}

static md_status run_oracle(lockstep *l, const md_node *n)
{
    md_backend *be = l->o->oracle;
    md_kernel k = {.node = n, .backend = be};
    void *in[MD_MAX_IN] = {0}, *out[MD_MAX_OUT] = {0}, *scratch = NULL;
    MD_TRY(be->ops->prepare[n->op](be, n, &k));
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] ? address(l, n->in[i], false) : NULL;
    for (int i = 0; i < n->n_out; i++)
        out[i] = address(l, n->out[i], false);
    md_status status = be->ops->alloc(be, k.scratch_bytes + 1, &scratch);
    if (status == MD_OK)
        status = k.run(&k, in, out, scratch);
    if (status == MD_OK)
        status = be->ops->sync(be);
    if (scratch)
        be->ops->release(be, scratch);
    if (k.release)
        k.release(&k);
    return status;
}

/* How far the oracle's t moves when each f32 input is off by an ulp, up or down by turns: what no
   f32 program can know better. l->want comes back as it was. */
static md_status sensitivity(lockstep *l, const md_node *n, const md_tensor *t, double *out)
{
    md_backend *be = l->o->oracle;
    int64_t count = md_numel(t);
    double *saved[MD_MAX_IN] = {0}, *moved = malloc((size_t)count * sizeof *moved);
    md_status status = moved ? MD_OK : MD_NOMEM;
    *out = 0;
    for (int i = 0; status == MD_OK && i < n->n_in; i++) {
        if (!n->in[i] || n->in[i]->dtype != MD_F32)
            continue;
        int64_t size = md_numel(n->in[i]);
        char *at = address(l, n->in[i], false);
        saved[i] = malloc((size_t)size * sizeof **saved);
        double *x = malloc((size_t)size * sizeof *x);
        status = saved[i] && x ? get(be, at, MD_F32, saved[i], size) : MD_NOMEM;
        for (int64_t j = 0; status == MD_OK && j < size; j++)
            x[j] = saved[i][j] * (1 + ldexp((j * 7 + i) % 3 ? 1 : -1, -23));
        if (status == MD_OK)
            status = put(be, at, MD_F32, x, size);
        free(x);
    }
    if (status == MD_OK)
        status = run_oracle(l, n);
    if (status == MD_OK)
        status = get(be, address(l, t, false), t->dtype, moved, count);
    for (int64_t j = 0; status == MD_OK && j < count; j++)
        *out = fmax(*out, fabs(moved[j] - l->want[j]));
    for (int i = 0; i < n->n_in; i++) {
        if (saved[i] && status == MD_OK)
            status = put(be, address(l, n->in[i], false), MD_F32, saved[i], md_numel(n->in[i]));
        free(saved[i]);
    }
    free(moved);
    return status == MD_NOMEM ? md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory") : status;
}

/* Compares what `tested` wrote into t; l->want is the oracle's, already rounded to t's type when
   exact. `input_scale`: largest input, the measure of a result that is zero by algebra.
   `sum_scale`: what a sum would be without cancellation, or 0. */
static md_status compare(lockstep *l, const md_node *n, const md_tensor *t, int which, double tol,
                         double input_scale, double sum_scale)
{
    int64_t count = md_numel(t), at = 0;
    double scale = fmax(magnitude(l->want, count), sum_scale), worst = 0, moved = 0;
    if (scale < 1e-6 * input_scale)
        scale = input_scale;
    MD_TRY(get(l->o->tested, address(l, t, true), t->dtype, l->got, count));
    for (int64_t i = 0; i < count; i++) {
        double e = fabs(l->got[i] - l->want[i]);
        if (!(e <= worst)) {
            worst = e;
            at = i;
        }
        if (isnan(e))
            break;
    }
    if (l->o->worst && worst > l->o->worst[n->op] * scale)
        l->o->worst[n->op] = worst / scale;
    /* rare, and costs another run of the oracle, which leaves its result as it is */
    if (!(worst <= tol * scale) && tol > 0 && t->dtype == MD_F32 && n->out[0]->storage == MD_TEMP)
        MD_TRY(sensitivity(l, n, t, &moved));
    if (!(worst <= fmax(tol * scale, 4 * moved)))
        MD_FAIL(
            MD_INTERNAL,
            "node %d %s, output %d %s: element %lld is %.9g, want %.9g: error %.3g of max %.3g, "
            "allowed %.3g",
            n->index, md_op_name(n->op), which, md_shape_text(t), (long long)at, l->got[at],
            l->want[at], worst, scale, tol);
    return MD_OK;
}

/* What adamw keeps in fewer bits: codes, or bf16 rounded (at random, by given bits). Both sides
   round the same value up to f32's rounding, so that an element may be one step off where that
   value is at a boundary, and hardly any is. */
static md_status compare_rounded(lockstep *l, const md_node *n, const md_tensor *t, int which)
{
    int64_t count = md_numel(t), off = 0;
    MD_TRY(get(l->o->tested, address(l, t, true), t->dtype, l->got, count));
    for (int64_t i = 0; i < count; i++) {
        double e = fabs(l->got[i] - l->want[i]);
        double one = t->dtype == MD_U8 ? 1 : fabs(l->want[i]) / 128; /* bf16: 1/256 to 1/128 */
        off += e > 0;
        if (!(e <= one))
            MD_FAIL(MD_INTERNAL, "node %d %s, output %d %s: element %lld is %.9g, want %.9g",
                    n->index, md_op_name(n->op), which, md_shape_text(t), (long long)i, l->got[i],
                    l->want[i]);
    }
    if (off > 1 + count / 500)
        MD_FAIL(MD_INTERNAL, "node %d %s, output %d %s: %lld of %lld elements are one step off",
                n->index, md_op_name(n->op), which, md_shape_text(t), (long long)off,
                (long long)count);
    return MD_OK;
}

/* Runs the prepared kernel on constant inputs, then restores them: a kernel that keeps anything of
   an earlier call gives itself away. */
static md_status run_on_other_values(lockstep *l, const md_kernel *k, void **in, void **out,
                                     void *scratch, char **saved)
{
    const md_node *n = k->node;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i])
            continue;
        int64_t count = md_numel(n->in[i]);
        for (int64_t j = 0; j < count; j++)
            l->got[j] = is_whole(n->in[i]->dtype) ? 0 : 0.75;
        MD_TRY(put(l->o->tested, in[i], n->in[i]->dtype, l->got, count));
    }
    MD_TRY(k->run(k, in, out, scratch));
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i])
            MD_TRY(put_bytes(l->o->tested, in[i], saved[i], bytes_of(l, n->in[i])));
    return MD_OK;
}

static md_status check_input(lockstep *l, const md_node *n, int i, const char *saved)
{
    size_t bytes = bytes_of(l, n->in[i]);
    char *now = malloc(bytes);
    if (!now)
        MD_FAIL(MD_NOMEM, "out of memory");
    md_status status = get_bytes(l->o->tested, address(l, n->in[i], true), now, bytes);
    if (status == MD_OK && memcmp(saved, now, bytes))
        status = md_fail(MD_INTERNAL, __FILE__, __LINE__, "node %d %s changed its input %d",
                         n->index, md_op_name(n->op), i);
    free(now);
    return status;
}

static md_status check_memory(lockstep *l, const md_node *n, char **saved, const char *block,
                              const char *scratch, size_t scratch_bytes)
{
    bool update = n->out[0]->storage == MD_VIEW, hold = true;
    for (int i = 0; i < l->n_slots; i++) {
        const slot *s = &l->slots[i];
        if (s->block)
            MD_TRY(guards_hold(l->o->tested, s->block, s->tested, s->bytes, &hold));
        if (!hold)
            MD_FAIL(MD_INTERNAL, "node %d %s wrote outside tensor %d %s", n->index,
                    md_op_name(n->op), i, md_shape_text(md_graph_tensor(l->graph.g, i)));
    }
    MD_TRY(guards_hold(l->o->tested, block, scratch, scratch_bytes, &hold));
    if (!hold)
        MD_FAIL(MD_INTERNAL, "node %d %s wrote outside its scratch of %zu bytes", n->index,
                md_op_name(n->op), scratch_bytes);
    for (int i = 0; i < n->n_in; i++) {
        const md_tensor *t = n->in[i];
        if (!t || (update && t->storage == MD_EXTERN))
            continue;
        MD_TRY(check_input(l, n, i, saved[i]));
    }
    return MD_OK;
}

/* The tested backend's turn, with every check but the numbers. */
static md_status run_tested(lockstep *l, const md_node *n)
{
    md_backend *be = l->o->tested;
    md_kernel k = {.node = n, .backend = be};
    void *in[MD_MAX_IN] = {0}, *out[MD_MAX_OUT] = {0};
    char *saved[MD_MAX_IN] = {0}, *block = NULL, *scratch = NULL;
    md_status status = MD_OK;
    MD_TRY(be->ops->prepare[n->op](be, n, &k));
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i])
            continue;
        in[i] = address(l, n->in[i], true);
        saved[i] = malloc(bytes_of(l, n->in[i]));
        if (!saved[i]) {
            status = MD_NOMEM;
            goto done;
        }
        MD_TRY_GOTO(get_bytes(be, in[i], saved[i], bytes_of(l, n->in[i])), done);
    }
    for (int i = 0; i < n->n_out; i++)
        out[i] = address(l, n->out[i], true);
    MD_TRY_GOTO(guarded(be, k.scratch_bytes, 0, &block, &scratch), done);
    for (int pass = 0; pass < 2; pass++) {
        MD_TRY_GOTO(set_bytes(be, scratch, NAN_BYTE, k.scratch_bytes), done);
        for (int i = 0; i < n->n_out; i++)
            if (n->out[i]->storage == MD_TEMP)
                MD_TRY_GOTO(set_bytes(be, out[i], NAN_BYTE, l->slots[n->out[i]->id].bytes), done);
        if (pass == 0)
            MD_TRY_GOTO(run_on_other_values(l, &k, in, out, scratch, saved), done);
        else
            MD_TRY_GOTO(k.run(&k, in, out, scratch), done);
        MD_TRY_GOTO(be->ops->sync(be), done);
    }
    status = check_memory(l, n, saved, block, scratch, k.scratch_bytes);
done:
    for (int i = 0; i < MD_MAX_IN; i++)
        free(saved[i]);
    if (block)
        be->ops->release(be, block);
    if (k.release)
        k.release(&k);
    return status;
}

static md_status step(lockstep *l, const md_node *n)
{
    md_tensor *t[MD_MAX_OUT + MD_MAX_IN];
    int count = written(n, t);
    double input_scale = 0, sum_scale = 0;
    bool bf16 = false;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i])
            continue;
        MD_TRY(get(l->o->oracle, address(l, n->in[i], false), n->in[i]->dtype, l->want,
                   md_numel(n->in[i])));
        input_scale = fmax(input_scale, magnitude(l->want, md_numel(n->in[i])));
        bf16 = bf16 || n->in[i]->dtype == MD_BF16;
        if (n->op == MD_OP_sum_to) /* a random walk of as many steps as each sum has terms */
            sum_scale = root_mean_square(l->want, md_numel(n->in[0])) *
                        sqrt((double)md_numel(n->in[0]) / (double)md_numel(n->out[0]));
    }
    MD_TRY(run_oracle(l, n));
    MD_TRY(run_tested(l, n));
    for (int i = 0; i < count; i++) {
        int64_t size = md_numel(t[i]);
        bool exact = l->o->equal || (n->op == l->c->op && l->c->flags & EXACT);
        bool adamw = n->op == MD_OP_adamw; /* rounds only what it keeps in fewer bits */
        double tol = tolerance(bf16 && !adamw ? MD_BF16 : t[i]->dtype);
        tol = exact ? 0 : fmax(tol, chain_tolerance(n));
        MD_TRY(get(l->o->oracle, address(l, t[i], false), t[i]->dtype, l->want, size));
        for (int64_t j = 0; exact && j < size; j++)
            l->want[j] = op_round(t[i]->dtype, l->want[j]);
        if (adamw && !exact && t[i]->dtype != MD_F32)
            MD_TRY(compare_rounded(l, n, t[i], i));
        else
            MD_TRY(compare(l, n, t[i], i, tol, input_scale, sum_scale));
        for (int64_t j = 0; j < size; j++)
            l->want[j] = op_round(t[i]->dtype, l->want[j]);
        MD_TRY(put(l->o->oracle, address(l, t[i], false), t[i]->dtype, l->want, size));
        MD_TRY(put(l->o->tested, address(l, t[i], true), t[i]->dtype, l->want, size));
    }
    if (l->o->seen)
        l->o->seen[n->op]++;
    return MD_OK;
}

md_status op_compare_run(const op_compare *o, const op_family *f, int row, md_dtype dtype)
{
    lockstep l = {.o = o, .c = &f->rows[row], .dtype = dtype};
    md_status status;
    MD_TRY_GOTO(op_graph_build(f, l.c, dtype, o->with_grad, &l.graph), done);
    MD_TRY_GOTO(allocate(&l), done);
    MD_TRY_GOTO(fill(&l, op_case_seed(f, row) + o->seed), done);
    int n = o->with_grad ? md_graph_n_nodes(l.graph.g) : l.graph.n_forward;
    for (int i = 0; i < n; i++)
        MD_TRY_GOTO(step(&l, md_graph_node(l.graph.g, i)), done);
done:
    release(&l);
    return status == MD_OK ? status : md_context(status, "%s", op_case_text(f, row, dtype));
}

md_status op_compare_row(md_backend *oracle, md_backend *tested, const op_family *f, int row,
                         op_tally *tally)
{
    int flags = f->rows[row].flags;
    for (int d = 0; d < 2; d++) {
        if (d == 1 && !(flags & BF16))
            continue;
        for (int shift = 0; shift < (flags & BIG ? 1 : 2); shift++) {
            op_compare o = {.oracle = oracle,
                            .tested = tested,
                            .with_grad = flags & GRAD,
                            .shift = shift,
                            .seen = tally->seen[d],
                            .worst = tally->worst[d]};
            MD_TRY(op_compare_run(&o, f, row, d ? MD_BF16 : MD_F32));
        }
    }
    return MD_OK;
}

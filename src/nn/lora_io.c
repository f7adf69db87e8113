/* Adapters in files, and their sum with the weights of the layers that they belong to. Names are
   looked up, never parsed: each layer asks for its pair, and what nobody asked for is refused. */
#include "base/str.h"
#include "nn/nn_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char A[] = "lora_A", B[] = "lora_B";

/* ---- Writing */

/* A name as the file has it: "unet." before the adapter's own. */
static md_status file_name(const nn_params *p, const nn_param_info *q, char *name, size_t size)
{
    return md_str_printf(name, size, "%s.%s", nn_params_model(p), q->name);
}

static md_status declare_adapters(const nn_params *p, format_writer *w)
{
    const nn_params *a = nn_lora_adapters(p);
    char name[256];
    for (int i = 0; i < nn_params_count(a); i++) {
        const nn_param_info *q = nn_params_info(a, i);
        int64_t dim[MD_MAX_DIMS];
        int n = nn__file_dims(q, dim);
        MD_TRY(file_name(p, q, name, sizeof name));
        MD_TRY(format_writer_declare(w, name, FORMAT_F32, n, dim));
    }
    return MD_OK;
}

static md_status put_adapters(const nn_params *p, md_backend *be, format_writer *w)
{
    const nn__lora *l = nn__lora_of(p);
    float *host[2] = {0};
    md_status status = nn__staging(l->adapters, host);
    for (int i = 0; i < nn_params_count(l->adapters) && status == MD_OK; i++) {
        const nn_param_info *q = nn_params_info(l->adapters, i);
        status = nn__to_file(q, nn_params_buffer(l->adapters), be, host);
        bool is_b = md_str_ends(q->name, ".lora_B.weight");
        for (int64_t k = 0; k < q->numel && is_b; k++)
            host[0][k] = (float)(l->options.scale * (double)host[0][k]);
        if (status == MD_OK)
            status = format_writer_put(w, host[0], q->numel);
    }
    free(host[0]);
    free(host[1]);
    return status;
}

static md_status save(nn_params *const *p, int n, md_backend *be, format_writer *w)
{
    MD_TRY(format_writer_meta(w, "format", "pt"));
    for (int i = 0; i < n; i++)
        MD_TRY(declare_adapters(p[i], w));
    for (int i = 0; i < n; i++)
        MD_TRY(put_adapters(p[i], be, w));
    return format_writer_finish(w);
}

md_status nn_lora_save(nn_params *const *p, int n, md_backend *be, const char *path)
{
    format_writer *w = NULL;
    MD_TRY(format_writer_new(path, &w));
    md_status status = save(p, n, be, w);
    format_writer_free(w);
    return status;
}

/* ---- Reading */

/* A [rank, like W behind its first dim] and B [O,rank] of one parameter; NULL: none. */
typedef struct pair {
    const format_tensor *a, *b;
} pair;

/* Shared by the stores that one file belongs to. */
typedef struct shared_file {
    format_tensors *f;
    int users;
} shared_file;

struct nn__merge {
    shared_file *file;
    int n_pairs;  /* that are there */
    pair pairs[]; /* [parameters of the store] */
};

static void release(shared_file *s)
{
    if (--s->users > 0)
        return;
    format_tensors_close(s->f);
    free(s);
}

void nn__merge_free(nn__merge *m)
{
    if (m)
        release(m->file);
    free(m);
}

/* "unet.LAYER.lora_A.weight" for the parameter "LAYER.weight"; false: not such a parameter. */
static bool pair_name(const nn_params *p, const nn_param_info *q, const char *which, char *name,
                      size_t size)
{
    size_t n = strlen(q->name), end = strlen(".weight");
    return q->ndim > 1 && md_str_ends(q->name, ".weight") &&
           md_str_printf(name, size, "%s.%.*s.%s.weight", nn_params_model(p), (int)(n - end),
                         q->name, which) == MD_OK;
}

static md_status check_shape(const format_tensors *f, const format_tensor *t,
                             const nn_param_info *want)
{
    char got[96], text[96];
    int64_t dim[MD_MAX_DIMS];
    int n = nn__file_dims(want, dim);
    if (t->dtype != FORMAT_F32 && t->dtype != FORMAT_F16 && t->dtype != FORMAT_BF16)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s holds %s, wanted F32, F16 or BF16",
                format_tensors_name(f), t->name, format_dtype_name(t->dtype));
    if (t->numel < 1 || !nn__shape_fits(want, t->ndim, t->dim))
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is [%s], its layer asks for [%s]",
                format_tensors_name(f), t->name, nn__dims_text(t->ndim, t->dim, got, sizeof got),
                nn__dims_text(n, dim, text, sizeof text));
    return MD_OK;
}

/* Looks for the pair of parameter q, whose shape it must fit. */
static md_status find_pair(const nn_params *p, const nn_param_info *q, const format_tensors *f,
                           pair *out)
{
    char a[256], b[256];
    if (!pair_name(p, q, A, a, sizeof a) || !pair_name(p, q, B, b, sizeof b))
        return MD_OK;
    *out = (pair){format_tensors_find(f, a), format_tensors_find(f, b)};
    if (!out->a && !out->b)
        return MD_OK;
    if (!out->a || !out->b)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is there without %s", format_tensors_name(f),
                out->a ? a : b, out->a ? b : a);
    nn_param_info want = *q;
    want.dim[0] = out->a->ndim > 0 ? out->a->dim[0] : 1;
    MD_TRY(check_shape(f, out->a, &want));
    int64_t rank = want.dim[0];
    want = (nn_param_info){.ndim = 2, .dim = {q->dim[0], rank}, .linear_as_conv = q->conv};
    return check_shape(f, out->b, &want);
}

static md_status merge_store(nn_params *p, shared_file *file)
{
    nn__lora *l = nn__lora_of(p);
    int n = nn_params_count(p);
    nn__merge *m = calloc(1, sizeof *m + (size_t)n * sizeof *m->pairs);
    if (!m)
        MD_FAIL(MD_NOMEM, "%s: out of memory", format_tensors_name(file->f));
    m->file = file;
    file->users++;
    nn__merge_free(l->merge);
    l->merge = m;
    for (int i = 0; i < n; i++) {
        MD_TRY(find_pair(p, nn_params_info(p, i), file->f, &m->pairs[i]));
        m->n_pairs += m->pairs[i].a != NULL;
    }
    return MD_OK;
}

static bool claimed(nn_params *const *p, int n, const format_tensor *t)
{
    for (int s = 0; s < n; s++) {
        const nn__merge *m = nn__lora_of(p[s])->merge;
        for (int i = 0; i < nn_params_count(p[s]); i++)
            if (m->pairs[i].a == t || m->pairs[i].b == t)
                return true;
    }
    return false;
}

static md_status check_all_claimed(nn_params *const *p, int n, const format_tensors *f)
{
    int64_t count = format_tensors_count(f), used = 0;
    for (int s = 0; s < n; s++)
        used += 2 * nn__lora_of(p[s])->merge->n_pairs;
    if (count == 0)
        MD_FAIL(MD_BAD_INPUT, "%s: holds no adapter", format_tensors_name(f));
    for (int64_t i = 0; i < count && used < count; i++) {
        const format_tensor *t = format_tensors_at(f, i);
        if (!claimed(p, n, t))
            MD_FAIL(MD_BAD_INPUT,
                    "%s: unexpected tensor %s; wanted pairs %s.LAYER.lora_A.weight, lora_B.weight "
                    "for layers that the model has",
                    format_tensors_name(f), t->name, nn_params_model(p[0]));
    }
    return MD_OK;
}

md_status nn__merge_open(nn_params *const *p, int n, format_tensors *f)
{
    shared_file *file = calloc(1, sizeof *file);
    if (!file) {
        format_tensors_close(f);
        MD_FAIL(MD_NOMEM, "adapters: out of memory");
    }
    *file = (shared_file){.f = f, .users = 1};
    md_status status = MD_OK;
    for (int s = 0; s < n && status == MD_OK; s++)
        status = merge_store(p[s], file);
    if (status == MD_OK)
        status = check_all_claimed(p, n, f);
    for (int s = 0; s < n && status != MD_OK; s++) {
        nn__merge_free(nn__lora_of(p[s])->merge);
        nn__lora_of(p[s])->merge = NULL;
    }
    release(file);
    return status;
}

md_status nn_lora_merge(nn_params *const *p, int n, const char *path)
{
    format_tensors *f = NULL;
    MD_TRY(format_tensors_open(path, &f));
    return nn__merge_open(p, n, f);
}

bool nn_lora_merged(const nn_params *p)
{
    const nn__merge *m = nn__lora_of(p)->merge;
    return m && m->n_pairs > 0;
}

static md_status read_finite(const format_tensors *f, const format_tensor *t, float *out)
{
    MD_TRY(format_tensors_read_f32(f, t, 0, t->numel, out));
    for (int64_t i = 0; i < t->numel; i++)
        if (!isfinite(out[i]))
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: element %lld is not finite",
                    format_tensors_name(f), t->name, (long long)i);
    return MD_OK;
}

/* w [O,K] += b [O,rank] a [rank,K]; each row's sum first: it is small beside w. sum: [K] */
static void add_product(float *restrict w, const float *restrict a, const float *restrict b,
                        int64_t out, int64_t rank, int64_t k, float *restrict sum)
{
    for (int64_t o = 0; o < out; o++) {
        memset(sum, 0, (size_t)k * sizeof *sum);
        for (int64_t r = 0; r < rank; r++) {
            const float *row = a + r * k;
            float scale = b[o * rank + r];
            for (int64_t i = 0; i < k; i++)
                sum[i] += scale * row[i];
        }
        for (int64_t i = 0; i < k; i++)
            w[o * k + i] += sum[i];
    }
}

md_status nn__merge_add(const nn_params *p, int i, float *w)
{
    const nn__merge *m = nn__lora_of(p)->merge;
    if (!m || !m->pairs[i].a)
        return MD_OK;
    pair t = m->pairs[i];
    int64_t rank = t.a->dim[0], out = t.b->dim[0], k = t.a->numel / rank;
    float *a = malloc((size_t)t.a->numel * sizeof *a), *b = malloc((size_t)t.b->numel * sizeof *b);
    float *sum = malloc((size_t)k * sizeof *sum);
    md_status status = MD_OK;
    if (!a || !b || !sum)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory for %s",
                         format_tensors_name(m->file->f), t.a->name);
    if (status == MD_OK)
        status = read_finite(m->file->f, t.a, a);
    if (status == MD_OK)
        status = read_finite(m->file->f, t.b, b);
    if (status == MD_OK)
        add_product(w, a, b, out, rank, k, sum);
    free(a);
    free(b);
    free(sum);
    return status;
}

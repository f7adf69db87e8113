/* Parameters from and to safetensors files: one walk for every model, since a parameter's name is
   the file's key. What differs between models is in nn_file_rules. */
#include "base/str.h"
#include "nn/nn_internal.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nn__file_dims(const nn_param_info *q, int64_t dim[MD_MAX_DIMS])
{
    memcpy(dim, q->dim, sizeof q->dim);
    if (q->conv) { /* O,kh,kw,I -> O,I,kh,kw */
        dim[1] = q->dim[3];
        dim[2] = q->dim[1];
        dim[3] = q->dim[2];
    } else if (q->linear_as_conv) {
        dim[2] = dim[3] = 1;
        return 4;
    }
    return q->ndim;
}

bool nn__shape_fits(const nn_param_info *q, int ndim, const int64_t *got)
{
    int64_t dim[MD_MAX_DIMS];
    int n = nn__file_dims(q, dim);
    if (q->ndim == 2) { /* [O,I], [O,I,1] and [O,I,1,1] are the same bytes */
        for (int i = 2; i < ndim; i++)
            if (got[i] != 1)
                return false;
        return ndim >= 2 && got[0] == dim[0] && got[1] == dim[1];
    }
    if (ndim != n)
        return false;
    for (int i = 0; i < n; i++)
        if (got[i] != dim[i])
            return false;
    return true;
}

const char *nn__dims_text(int ndim, const int64_t *dim, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < ndim && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%lld", i ? "," : "", (long long)dim[i]);
    return text;
}

static bool ignorable(const nn_file_rules *rules, const char *name)
{
    if (rules && rules->ignorable)
        for (const char *const *piece = rules->ignorable; *piece; piece++)
            if (strstr(name, *piece))
                return true;
    return false;
}

/* The parameter that the file calls `name`, -1 if there is none. */
static int find(const nn_params *p, const nn_file_rules *rules, const char *name)
{
    char renamed[256];
    if (rules && rules->names) {
        int i = nn_params_count(p) - 1;
        while (i >= 0 && strcmp(rules->names[i].name, name) != 0)
            i--;
        return i;
    }
    bool other = rules && rules->rename && rules->rename(name, renamed, sizeof renamed);
    return nn_params_find(p, other ? renamed : name);
}

/* Tensor i of the file belongs to parameter *param, -1 if it is ignorable or another model's. */
static md_status match(const nn_params *p, const char *path, const format_tensor *t,
                       const nn_file_rules *rules, int *param)
{
    char got[96], want[96];
    *param = -1;
    if (rules && rules->prefix && !md_str_starts(t->name, rules->prefix))
        return MD_OK;
    *param = find(p, rules, t->name);
    if (*param < 0) {
        if (ignorable(rules, t->name))
            return MD_OK;
        MD_FAIL(MD_BAD_INPUT,
                "%s: unexpected tensor %s [%s]; the %s of this config has no such parameter", path,
                t->name, nn__dims_text(t->ndim, t->dim, got, sizeof got), nn_params_model(p));
    }
    const nn_param_info *q = nn_params_info(p, *param);
    if (!nn__shape_fits(q, t->ndim, t->dim)) {
        int64_t dim[MD_MAX_DIMS];
        int n = nn__file_dims(q, dim);
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is [%s], the config asks for [%s]", path, t->name,
                nn__dims_text(t->ndim, t->dim, got, sizeof got),
                nn__dims_text(n, dim, want, sizeof want));
    }
    if (t->dtype != FORMAT_F32 && t->dtype != FORMAT_F16 && t->dtype != FORMAT_BF16)
        MD_FAIL(MD_BAD_INPUT, "%s: tensor %s holds %s, wanted F32, F16 or BF16", path, t->name,
                format_dtype_name(t->dtype));
    return MD_OK;
}

/* source[i]: the file's tensor for parameter i. */
static md_status match_all(const nn_params *p, const format_tensors *f, const char *path,
                           const nn_file_rules *rules, const format_tensor **source)
{
    int n = nn_params_count(p), param, missing = 0;
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        MD_TRY(match(p, path, t, rules, &param));
        if (param < 0)
            continue;
        if (source[param])
            MD_FAIL(MD_BAD_INPUT, "%s: tensors %s and %s are the same parameter", path,
                    source[param]->name, t->name);
        source[param] = t;
    }
    for (int i = 0; i < n; i++)
        missing += !source[i];
    for (int i = 0; i < n && missing; i++)
        if (!source[i])
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s is missing (%d of %d are)", path,
                    rules && rules->names ? rules->names[i].name : nn_params_info(p, i)->name,
                    missing, n);
    return MD_OK;
}

/* Conv weights between the file's O,I,kh,kw and our O,kh,kw,I; other parameters are not touched. */
static void transpose(const nn_param_info *q, const float *src, float *dst, bool to_file)
{
    int64_t kh = q->dim[1], kw = q->dim[2], n_in = q->dim[3], k = 0;
    for (int64_t o = 0; o < q->dim[0]; o++)
        for (int64_t y = 0; y < kh; y++)
            for (int64_t x = 0; x < kw; x++)
                for (int64_t c = 0; c < n_in; c++, k++) {
                    int64_t file = ((o * n_in + c) * kh + y) * kw + x;
                    dst[to_file ? file : k] = src[to_file ? k : file];
                }
}

md_status nn__staging(const nn_params *p, float *host[2])
{
    int64_t largest = 1;
    for (int i = 0; i < nn_params_count(p); i++)
        if (nn_params_info(p, i)->numel > largest)
            largest = nn_params_info(p, i)->numel;
    host[0] = malloc((size_t)largest * sizeof(float));
    host[1] = malloc((size_t)largest * sizeof(float));
    if (!host[0] || !host[1])
        MD_FAIL(MD_NOMEM, "%s: out of memory for a tensor of %lld elements", nn_params_model(p),
                (long long)largest);
    return MD_OK;
}

static md_status load_tensor(nn_params *p, md_backend *be, const format_tensors *f,
                             const char *path, int i, const format_tensor *t, float *host[2])
{
    const nn_param_info *q = nn_params_info(p, i);
    MD_TRY(format_tensors_read_f32(f, t, 0, q->numel, host[0]));
    MD_TRY(nn__merge_add(p, i, host[0]));
    for (int64_t k = 0; k < q->numel; k++)
        if (!isfinite(host[0][k]))
            MD_FAIL(MD_BAD_INPUT, "%s: tensor %s: element %lld is not finite", path, t->name,
                    (long long)k);
    if (q->conv)
        transpose(q, host[0], host[1], false);
    return nn_params_write(p, be, i, host[q->conv]);
}

/* be NULL: only checks. */
static md_status load(nn_params *p, md_backend *be, const char *path, const nn_file_rules *rules)
{
    format_tensors *f = NULL;
    float *host[2] = {0};
    int n = nn_params_count(p);
    const format_tensor **source = calloc((size_t)n + 1, sizeof *source);
    md_status status = MD_OK;
    if (!source)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    MD_TRY_GOTO(format_tensors_open(path, &f), done);
    MD_TRY_GOTO(match_all(p, f, path, rules, source), done);
    if (!be)
        goto done;
    MD_TRY_GOTO(nn__staging(p, host), done);
    for (int i = 0; i < n; i++)
        MD_TRY_GOTO(load_tensor(p, be, f, path, i, source[i], host), done);
done:
    free(host[0]);
    free(host[1]);
    free(source);
    format_tensors_close(f);
    return status;
}

md_status nn_params_check_file(const nn_params *p, const char *path, const nn_file_rules *rules)
{
    return load((nn_params *)p, NULL, path, rules); /* without a backend nothing is written */
}

md_status nn_params_load(nn_params *p, md_backend *be, const char *path, const nn_file_rules *rules)
{
    return load(p, be, path, rules);
}

md_status nn__to_file(const nn_param_info *q, const md_buffer *values, md_backend *be,
                      float *host[2])
{
    if (!q->conv)
        return md_buffer_read(be, values, q->offset, host[0], MD_F32, q->numel);
    MD_TRY(md_buffer_read(be, values, q->offset, host[1], MD_F32, q->numel));
    transpose(q, host[1], host[0], true);
    return MD_OK;
}

md_status nn_params_declare(const nn_params *p, const nn_file_name *names, bool f16,
                            format_writer *w)
{
    for (int i = 0; i < nn_params_count(p); i++) {
        const nn_param_info *q = nn_params_info(p, i);
        int64_t dim[MD_MAX_DIMS];
        int n = nn__file_dims(q, dim);
        if (names && names[i].as_conv && n == 2) {
            dim[2] = dim[3] = 1;
            n = 4;
        }
        MD_TRY(format_writer_declare(w, names ? names[i].name : q->name,
                                     f16 ? FORMAT_F16 : FORMAT_F32, n, dim));
    }
    return MD_OK;
}

md_status nn_params_put(const nn_params *p, const md_buffer *values, md_backend *be,
                        format_writer *w)
{
    float *host[2] = {0};
    nn_params *own = (nn_params *)p; /* nothing is changed through it */
    md_status status = MD_OK;
    if (!values)
        values = nn_params_buffer(own)->ptr ? nn_params_buffer(own) : nn_params_copy(own);
    MD_TRY_GOTO(nn__staging(p, host), done);
    for (int i = 0; i < nn_params_count(p); i++) {
        const nn_param_info *q = nn_params_info(p, i);
        MD_TRY_GOTO(nn__to_file(q, values, be, host), done);
        MD_TRY_GOTO(format_writer_put(w, host[0], q->numel), done);
    }
done:
    free(host[0]);
    free(host[1]);
    return status;
}

md_status nn_params_put_file(const nn_params *p, const char *from, const nn_file_rules *rules,
                             format_writer *w)
{
    format_tensors *f = NULL;
    float *host[2] = {0};
    int n = nn_params_count(p);
    const format_tensor **source = calloc((size_t)n + 1, sizeof *source);
    md_status status = MD_OK;
    if (!source)
        MD_FAIL(MD_NOMEM, "%s: out of memory", from);
    MD_TRY_GOTO(format_tensors_open(from, &f), done);
    MD_TRY_GOTO(match_all(p, f, from, rules, source), done);
    MD_TRY_GOTO(nn__staging(p, host), done);
    for (int i = 0; i < n; i++) { /* both are in file layout */
        MD_TRY_GOTO(format_tensors_read_f32(f, source[i], 0, source[i]->numel, host[0]), done);
        MD_TRY_GOTO(nn__merge_add(p, i, host[0]), done);
        MD_TRY_GOTO(format_writer_put(w, host[0], source[i]->numel), done);
    }
done:
    format_tensors_close(f);
    free(host[0]);
    free(host[1]);
    free(source);
    return status;
}

/* A file of one model, its parameters declared. */
static md_status begin(const nn_params *p, const char *path, bool f16, format_writer **w)
{
    MD_TRY(format_writer_new(path, w));
    /* transformers reads no file that does not say whose tensors it holds */
    MD_TRY(format_writer_meta(*w, "format", "pt"));
    return nn_params_declare(p, NULL, f16, *w);
}

md_status nn_params_save_from(const nn_params *p, const md_buffer *values, md_backend *be,
                              const char *path, bool f16)
{
    format_writer *w = NULL;
    md_status status = MD_OK;
    if (values && values->numel != nn_params_buffer((nn_params *)p)->numel)
        MD_FAIL(MD_INTERNAL, "%s: values of %lld elements", path, (long long)values->numel);
    MD_TRY_GOTO(begin(p, path, f16, &w), done);
    MD_TRY_GOTO(nn_params_put(p, values, be, w), done);
    MD_TRY_GOTO(format_writer_finish(w), done);
done:
    format_writer_free(w);
    return status;
}

md_status nn_params_save(const nn_params *p, md_backend *be, const char *path, bool f16)
{
    return nn_params_save_from(p, NULL, be, path, f16);
}

md_status nn_params_convert(const nn_params *p, const char *from, const char *to,
                            const nn_file_rules *rules, bool f16)
{
    format_writer *w = NULL;
    md_status status = MD_OK;
    MD_TRY_GOTO(begin(p, to, f16, &w), done);
    MD_TRY_GOTO(nn_params_put_file(p, from, rules, w), done);
    MD_TRY_GOTO(format_writer_finish(w), done);
done:
    format_writer_free(w);
    return status;
}

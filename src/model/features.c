#include "model/features.h"
#include "base/file.h"
#include "model/config.h"
#include "model/foundation_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct features {
    standalone *encoder;
    bool owned;
    preprocess prep;
    md_backend *be;
    int64_t batch;
    md_graph *g;
    md_plan *plan;
    md_tensor *in, *positions, *out; /* positions: NULL where nothing is interpolated */
    float *pictures, *tokens;        /* staging: [batch,crop,crop,3], [batch,D] */
};

static const dino_config *config_of(const features *f)
{
    return &f->encoder->config.dino;
}

/* Pictures as they come out of the preprocessing must be what the encoder takes. */
static md_status check(const features *f)
{
    const dino_config *c = config_of(f);
    if (c->num_channels != 3)
        MD_FAIL(MD_BAD_INPUT, "%s: an encoder of %d channels; pictures have 3", f->encoder->path,
                c->num_channels);
    if (f->prep.crop % c->patch_size)
        MD_FAIL(MD_BAD_INPUT,
                "%s: crop_size %lld of the preprocessing is no multiple of patch_size %d",
                f->encoder->path, (long long)f->prep.crop, c->patch_size);
    return MD_OK;
}

md_status features_open(const char *folder, features **out)
{
    features *f = calloc(1, sizeof *f);
    if (!f)
        MD_FAIL(MD_NOMEM, "encoder: out of memory");
    f->owned = true;
    md_status status = standalone_open(MODEL_DINO, folder, &f->encoder);
    if (status == MD_OK)
        status = preprocess_read(f->encoder->path, &f->prep);
    if (status == MD_OK)
        status = check(f);
    if (status != MD_OK)
        features_free(f);
    else
        *out = f;
    return status;
}

static md_status read_config(features *f, const char *folder)
{
    char path[FOUNDATION_PATH], file[FOUNDATION_PATH];
    model_config c;
    MD_TRY(model__resolve_folder(folder, "config.json", path));
    MD_TRY(md_path_join(file, sizeof file, path, "config.json"));
    MD_TRY(dino_config_read(file, &c.dino));
    MD_TRY(standalone_new(MODEL_DINO, &c, &f->encoder));
    MD_TRY(preprocess_read(path, &f->prep));
    return check(f);
}

md_status features_open_config(const char *folder, features **out)
{
    features *f = calloc(1, sizeof *f);
    if (!f)
        MD_FAIL(MD_NOMEM, "encoder: out of memory");
    f->owned = true;
    md_status status = read_config(f, folder);
    if (status != MD_OK)
        features_free(f);
    else
        *out = f;
    return status;
}

md_status features_wrap(standalone *encoder, const preprocess *p, features **out)
{
    features *f = calloc(1, sizeof *f);
    if (!f)
        MD_FAIL(MD_NOMEM, "encoder: out of memory");
    f->encoder = encoder;
    f->prep = *p;
    md_status status = check(f);
    if (status != MD_OK)
        features_free(f);
    else
        *out = f;
    return status;
}

void features_free(features *f)
{
    if (!f)
        return;
    md_plan_free(f->plan);
    md_graph_free(f->g);
    if (f->owned)
        standalone_free(f->encoder, f->be);
    free(f->pictures);
    free(f->tokens);
    free(f);
}

int64_t features_width(const features *f)
{
    return config_of(f)->hidden_size;
}

md_status features_hash(const features *f, char hex[MD_SHA256_HEX])
{
    char weights[MD_SHA256_HEX];
    md_text t = {0};
    MD_TRY(standalone_hash(f->encoder, weights));
    md_status status = dino_config_text(&t, config_of(f));
    if (status == MD_OK)
        status = preprocess_text(&t, &f->prep);
    if (status == MD_OK)
        status = md_text_add(&t, "%s\n", weights);
    if (status == MD_OK)
        md_sha256(t.s, t.n, hex);
    md_text_free(&t);
    return status;
}

static md_status build(features *f, md_dtype dtype)
{
    const dino_config *c = config_of(f);
    int64_t edge = f->prep.crop, patches = edge / c->patch_size * (edge / c->patch_size);
    MD_TRY(md_graph_new(&f->g));
    f->in = md_input(f->g, "picture", MD_F32, 4, MD_DIMS(f->batch, edge, edge, 3));
    if (dino_interpolates(c, edge, edge))
        f->positions = md_input(f->g, "positions", MD_F32, 2, MD_DIMS(patches, dino_positions(c)));
    md_tensor *tokens =
        dino(nn_root(f->g, f->encoder->params, dtype), c, md_cast(f->in, dtype), f->positions);
    f->out = md_cast(dino_class(tokens), MD_F32);
    MD_TRY(md_graph_check(f->g));
    return md_plan_build(f->g, f->be, &f->out, 1, &f->plan);
}

md_status features_plan(features *f, md_backend *be, md_dtype dtype, int batch)
{
    f->be = be;
    f->batch = batch;
    if (f->owned)
        nn_params_hold(f->encoder->params, dtype == MD_BF16 ? NN_HOLD_BF16 : NN_HOLD_F32);
    f->pictures = malloc((size_t)(3 * f->batch * f->prep.crop * f->prep.crop) * sizeof(float));
    f->tokens = malloc((size_t)(f->batch * features_width(f)) * sizeof(float));
    if (!f->pictures || !f->tokens)
        MD_FAIL(MD_NOMEM, "encoder: out of memory");
    return build(f, dtype);
}

const md_plan *features_step(const features *f)
{
    return f->plan;
}

size_t features_bytes(const features *f)
{
    return md_plan_memory(f->plan).total +
           (f->owned ? nn_params_bytes(f->encoder->params, f->be) : 0);
}

/* [patches,positions], the same for every picture: written once. */
static md_status write_positions(features *f)
{
    int64_t n = md_numel(f->positions);
    float *matrix = malloc((size_t)n * sizeof *matrix);
    if (!matrix)
        MD_FAIL(MD_NOMEM, "encoder: out of memory");
    dino_position_matrix(config_of(f), f->prep.crop, f->prep.crop, matrix);
    md_status status = md_plan_write(f->plan, f->positions, matrix, MD_F32, n);
    free(matrix);
    return status;
}

md_status features_load(features *f)
{
    if (f->owned)
        MD_TRY(standalone_load(f->encoder, f->be));
    MD_TRY(md_plan_load(f->plan));
    return f->positions ? write_positions(f) : MD_OK;
}

/* in [d] -> out [d] of length one */
static md_status normalize(const float *in, int64_t d, int64_t picture, float *out)
{
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)in[i] * in[i];
    if (!isfinite(sum) || sum <= 0)
        MD_FAIL(MD_NONFINITE, "encoder: the features of picture %lld are not finite, or all zero",
                (long long)picture);
    for (int64_t i = 0; i < d; i++)
        out[i] = (float)(in[i] / sqrt(sum));
    return MD_OK;
}

md_status features_encode(features *f, const image *rgb, int64_t n, float *out)
{
    int64_t values = 3 * f->prep.crop * f->prep.crop, d = features_width(f);
    memset(f->pictures, 0, (size_t)(f->batch * values) * sizeof *f->pictures);
    for (int64_t at = 0; at < n; at += f->batch) {
        int64_t m = n - at < f->batch ? n - at : f->batch;
        for (int64_t i = 0; i < m; i++)
            MD_TRY(preprocess_apply(&f->prep, &rgb[at + i], f->pictures + i * values));
        MD_TRY(md_plan_write(f->plan, f->in, f->pictures, MD_F32, f->batch * values));
        MD_TRY(md_plan_run(f->plan));
        MD_TRY(md_plan_read(f->plan, f->out, f->tokens, MD_F32, f->batch * d));
        for (int64_t i = 0; i < m; i++)
            MD_TRY(normalize(f->tokens + i * d, d, at + i, out + (at + i) * d));
    }
    return MD_OK;
}

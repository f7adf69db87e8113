#include "generate/assess.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/comm.h"
#include "generate/rejects.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct assessor {
    const config *cfg;
    const char *data_h5;
    md_backend *be; /* NULL on a rank that does not compute */
    md_dtype dtype;
    features *encoder;
    char hash[MD_SHA256_HEX];
    references real;
    band limits;
    double alignment;
    float *feature; /* [2 batch,D]: whole pictures, then boxes */
    image *picture; /* [2 batch] */
    int batch;
};

static md_status setup(assessor *a)
{
    MD_TRY(features_open(config_string(a->cfg, KEY_model_encoder), &a->encoder));
    MD_TRY(features_hash(a->encoder, a->hash));
    if (!a->be)
        return MD_OK;
    a->feature = malloc((size_t)(2 * a->batch * features_width(a->encoder)) * sizeof *a->feature);
    a->picture = calloc((size_t)(2 * a->batch), sizeof *a->picture);
    if (!a->feature || !a->picture)
        MD_FAIL(MD_NOMEM, "assess: out of memory");
    return features_plan(a->encoder, a->be, a->dtype, 2 * a->batch);
}

md_status assessor_open(const config *cfg, const char *data_h5, md_backend *be, int batch,
                        assessor **out)
{
    *out = NULL;
    if (!config_string(cfg, KEY_model_encoder)[0])
        return MD_OK;
    assessor *a = calloc(1, sizeof *a);
    if (!a)
        MD_FAIL(MD_NOMEM, "assess: out of memory");
    a->cfg = cfg;
    a->data_h5 = data_h5;
    a->be = be;
    a->batch = batch;
    a->dtype = config_choice(cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32;
    a->alignment = config_float(cfg, KEY_quality_alignment);
    md_status status = setup(a);
    if (status != MD_OK) {
        assessor_free(a);
        return md_context(status, "model.encoder");
    }
    *out = a;
    return MD_OK;
}

void assessor_free(assessor *a)
{
    if (!a)
        return;
    features_free(a->encoder);
    references_free(&a->real);
    free(a->feature);
    free(a->picture);
    free(a);
}

size_t assessor_bytes(const assessor *a)
{
    return a && a->be ? features_bytes(a->encoder) : 0;
}

const char *assessor_hash(const assessor *a)
{
    return a->hash;
}

/* ---- real images */

/* What the features of the real images depend on. */
static md_status cache_key(const assessor *a, char hex[MD_SHA256_HEX])
{
    char data[MD_SHA256_HEX];
    md_text t = {0};
    MD_TRY(md_sha256_file(a->data_h5, data));
    md_status status = md_text_add(&t, "%s %s %s %s %d lesion alone", a->hash, data,
                                   md_dtype_name(a->dtype), a->be->ops->name, REFERENCES_VIEWS);
    if (status == MD_OK)
        md_sha256(t.s, t.n, hex);
    md_text_free(&t);
    return status;
}

/* From the cache, or into it. A worker's own. */
static md_status find_features(assessor *a, const char *cache)
{
    char key[MD_SHA256_HEX];
    bool hit;
    MD_TRY(cache_key(a, key));
    MD_TRY(references_load(&a->real, cache, key, &hit));
    if (hit)
        return MD_OK;
    MD_TRY(references_encode(&a->real, a->data_h5, a->encoder));
    return references_save(&a->real, cache, key);
}

static int first_worker(void)
{
    return comm_size(comm_world()) > 1 ? 1 : 0;
}

static bool is_first(void)
{
    return comm_rank(comm_world()) == first_worker();
}

/* From one rank to all, so that nobody reads a file that another machine just wrote. */
static md_status share(references *r)
{
    size_t bytes = (size_t)(r->n * r->views * r->width) * sizeof *r->view[0];
    for (int part = 0; part < N_PARTS && bytes > 0; part++)
        MD_TRY(comm_broadcast(comm_world(), first_worker(), r->view[part], bytes, 0));
    return MD_OK;
}

md_status assessor_prepare(assessor *a, const char *cache)
{
    md_status status = references_open(a->data_h5, features_width(a->encoder), &a->real);
    if (status == MD_OK && a->be)
        status = features_load(a->encoder);
    if (status == MD_OK && is_first())
        status = find_features(a, cache);
    MD_TRY(comm_agree(comm_world(), status));
    return share(&a->real);
}

/* Of the lesion images outside the train split; *out is the caller's. Collective(world). */
md_status assessor_holdout(assessor *a, references *out)
{
    *out = (references){0};
    md_status status = references_open_holdout(a->data_h5, features_width(a->encoder), out);
    if (status == MD_OK && is_first())
        status = references_encode(out, a->data_h5, a->encoder);
    status = comm_agree(comm_world(), status);
    return status == MD_OK ? share(out) : status;
}

const references *assessor_real(const assessor *a)
{
    return &a->real;
}

/* ---- judging */

md_status assessor_find_band(const assessor *a, double limits[PAIRS_BAND])
{
    band b;
    band_source from;
    MD_TRY(band_find(a->cfg, &a->real, &b, &from));
    band_tell(&b, &from);
    band_pack(&b, limits);
    return MD_OK;
}

void assessor_use_band(assessor *a, const double limits[PAIRS_BAND])
{
    a->limits = band_unpack(limits);
}

/* Pairs into a->feature: n whole pictures, then n boxes. */
static md_status encode(assessor *a, const assess_pair *pairs, int n)
{
    if (n > a->batch)
        MD_FAIL(MD_INTERNAL, "assess: %d pairs, planned for %d", n, a->batch);
    memset(a->picture, 0, (size_t)(2 * a->batch) * sizeof *a->picture);
    for (int i = 0; i < n; i++) {
        a->picture[i] = pairs[i].rgb;
        MD_TRY(references_lesion(&pairs[i].rgb, &pairs[i].guide, &a->picture[n + i]));
    }
    return features_encode(a->encoder, a->picture, 2 * n, a->feature);
}

/* encode, and frees what it cut. */
static md_status encode_pairs(assessor *a, const assess_pair *pairs, int n)
{
    md_status status = encode(a, pairs, n);
    for (int i = n; i < 2 * n && n <= a->batch; i++)
        image_free(&a->picture[i]);
    return status;
}

md_status assessor_encode(assessor *a, const assess_pair *pairs, int n, float *out)
{
    int64_t d = a->real.width;
    MD_TRY(encode_pairs(a, pairs, n));
    for (int i = 0; i < n; i++)
        for (int part = 0; part < N_PARTS; part++)
            memcpy(out + (i * N_PARTS + part) * d, a->feature + (part * n + i) * d,
                   (size_t)d * sizeof *out);
    return MD_OK;
}

md_status assessor_measure(assessor *a, const assess_pair *pairs, int n, assessment *out)
{
    MD_TRY(encode_pairs(a, pairs, n));
    for (int i = 0; i < n; i++) {
        out[i].alignment = pairs[i].alignment;
        for (int part = 0; part < N_PARTS; part++)
            references_compare(&a->real, (picture_part)part,
                               a->feature + (part * n + i) * a->real.width, pairs[i].group, NULL,
                               &out[i].part[part]);
    }
    return MD_OK;
}

verdict assessor_judge(const assessor *a, const assessment *m)
{
    return band_judge(&a->limits, a->alignment, m);
}

static md_status show(const assessor *a, const assess_pair *pair, int32_t id, const char *png)
{
    data_store *d = NULL;
    image real = {0};
    MD_TRY(data_open(a->data_h5, DATA_IMAGES, &d));
    md_status status = image_new(&real, data_size(d), data_size(d), 3);
    if (status == MD_OK && id >= 0)
        status = data_read_pixels(d, id, real.px, NULL);
    data_close(d);
    if (status == MD_OK)
        status = rejects_picture(&pair->rgb, &pair->guide, id >= 0 ? &real : NULL, png);
    image_free(&real);
    return status;
}

void assessor_show(const assessor *a, const assess_pair *pair, const assessment *m, int64_t slot,
                   uint32_t attempt, const char *folder)
{
    char path[4096];
    verdict v = assessor_judge(a, m);
    if (slot >= ASSESS_PICTURES)
        return;
    bool lesion = v == VERDICT_COPY_LESION || v == VERDICT_FOREIGN_LESION;
    md_status status =
        md_str_printf(path, sizeof path, "%s/%04d-%02u.png", folder, (int)slot, (unsigned)attempt);
    if (status == MD_OK && v == VERDICT_GOOD) {
        (void)unlink(path); /* of an earlier judgement */
        return;
    }
    if (status == MD_OK)
        status = md_dir_make(folder);
    if (status == MD_OK)
        status = show(a, pair, m->part[lesion ? PART_LESION : PART_WHOLE].id, path);
    if (status != MD_OK) {
        md_warn("assess", "no picture of a rejected draw: %s", md_status_text());
        md_status_clear();
    }
}

void assessor_explain(const assessor *a, const assessment *m, char *out, size_t size)
{
    band_explain(&a->limits, a->alignment, m, out, size);
}

#include "train/lesions.h"
#include "base/log.h"
#include "base/str.h"
#include "comm/comm.h"
#include "model/codec.h"
#include "store/data.h"
#include "train/prior.h"
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = LESIONS_VARIANTS, NAMED = 5 }; /* most names in a message */

/* What is needed while rows are read. */
typedef struct reading {
    const foundation *f;
    const lesions_options *o;
    data_store *d;
    codec *k;
    int64_t size, edge, latent; /* latent: floats of one picture's moments */
    uint8_t *rgb, *regions;     /* [VARIANTS,S,S,3], [VARIANTS,S,S] */
    image mask, region;         /* [S,S,1]; region: a view of the first of regions */
} reading;

/* 1 where the loss shall count. */
static md_status region_of(reading *r, const data_row *row)
{
    uint8_t *to = r->region.px;
    if (r->o->region == LESIONS_INSIDE) {
        memcpy(to, r->mask.px, (size_t)(r->size * r->size));
        return MD_OK;
    }
    image grown = {0};
    MD_TRY(image_mask_dilate(&r->mask, r->o->grow_px, &grown));
    for (int64_t y = 0; y < r->size; y++)
        for (int64_t x = 0; x < r->size; x++) {
            bool valid =
                y >= row->valid[0] && y < row->valid[2] && x >= row->valid[1] && x < row->valid[3];
            to[y * r->size + x] = valid && !grown.px[y * r->size + x];
        }
    image_free(&grown);
    return MD_OK;
}

static void mirror(uint8_t *to, const uint8_t *from, int64_t size, int channels)
{
    for (int64_t y = 0; y < size; y++)
        for (int64_t x = 0; x < size; x++)
            memcpy(to + (y * size + x) * channels, from + (y * size + size - 1 - x) * channels,
                   (size_t)channels);
}

/* Each variant for itself: the upper left pixel of a mirrored square is another one. */
static md_status pool(const reading *r, float *out)
{
    for (int v = 0; v < VARIANTS; v++) {
        const image region = {r->size, r->size, 1, r->regions + v * r->size * r->size};
        MD_TRY(image_mask_pool(&region, r->edge, r->o->pool, out + v * r->edge * r->edge));
    }
    return MD_OK;
}

static void paint_outside_white(uint8_t *rgb, const uint8_t *region, int64_t pixels)
{
    for (int64_t i = 0; i < pixels; i++)
        if (!region[i])
            memset(rgb + 3 * i, 255, 3);
}

static md_status read_picture(reading *r, int64_t id, lesions *out, int64_t at)
{
    data_row row;
    int64_t pixels = r->size * r->size;
    MD_TRY(data_read_row(r->d, id, &row));
    MD_TRY(data_read_pixels(r->d, id, r->rgb, r->mask.px));
    MD_TRY(region_of(r, &row));
    if (r->o->mask_out)
        paint_outside_white(r->rgb, r->region.px, pixels);
    mirror(r->rgb + 3 * pixels, r->rgb, r->size, 3);
    mirror(r->regions + pixels, r->regions, r->size, 1);
    MD_TRY(pool(r, out->mask + at * VARIANTS * r->edge * r->edge));
    MD_TRY(codec_encode(r->k, r->rgb, VARIANTS, out->moments + at * VARIANTS * r->latent));
    if (!out->masked)
        return MD_OK;
    return codec_encode_holed(r->k, r->rgb, r->regions, VARIANTS,
                              out->masked + at * VARIANTS * r->latent);
}

/* Pictures of the class, behind the lesions; a UNet that sees a mask paints them wholly. */
static md_status read_class(reading *r, const prior_pictures *p, lesions *out)
{
    const char *folder = r->o->prior_folder;
    int64_t pixels = r->size * r->size;
    memset(r->regions, 1, (size_t)(VARIANTS * pixels));
    for (int64_t i = 0; i < p->n; i++) {
        int64_t at = (out->source.n + i) * VARIANTS * r->latent;
        MD_TRY(prior_read(folder, p->names[i], r->size, r->rgb));
        mirror(r->rgb + 3 * pixels, r->rgb, r->size, 3);
        MD_TRY(codec_encode(r->k, r->rgb, VARIANTS, out->moments + at));
        if (out->masked)
            MD_TRY(codec_encode_holed(r->k, r->rgb, r->regions, VARIANTS, out->masked + at));
    }
    return MD_OK;
}

/* Samples whose region has vanished at the latent's size, and the pictures they come from. */
static int64_t count_empty(const reading *r, const lesions *l, int64_t at)
{
    int64_t px = r->edge * r->edge, empty = 0;
    for (const float *m = l->mask + at * VARIANTS * px; m < l->mask + (at + 1) * VARIANTS * px;
         m += px) {
        int64_t i = 0;
        while (i < px && m[i] <= 0)
            i++;
        empty += i == px;
    }
    return empty;
}

static md_status list_empty(const reading *r, const lesions *l, const int64_t *ids, int64_t *empty,
                            md_text *names)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < l->source.n; i++) {
        data_row row;
        int64_t n = count_empty(r, l, i);
        *empty += n;
        if (n == 0 || ++rows > NAMED + 1)
            continue;
        MD_TRY(data_read_row(r->d, ids[i], &row));
        MD_TRY(rows > NAMED ? md_text_add(names, ", ...")
                            : md_text_add(names, "%s%lld (%s)", rows > 1 ? ", " : "",
                                          (long long)ids[i], row.name));
    }
    return MD_OK;
}

/* They weigh nothing (loss.outside is 0); where all do, nothing would be learned. */
static md_status tell_empty(const reading *r, const lesions *l, const int64_t *ids)
{
    md_text names = {0};
    int64_t empty = 0, all = l->source.n * VARIANTS;
    const char *why = r->o->region == LESIONS_INSIDE
                          ? "there is no lesion, or finetune.pool = \"nearest\" steps over it "
                            "(\"area\" does not)"
                          : "the lesion, grown by finetune.grow_px, leaves nothing of the picture";
    if (r->o->outside)
        return MD_OK;
    md_status status = list_empty(r, l, ids, &empty, &names);
    if (status == MD_OK && empty == all)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: nothing to train on: what the loss would count is empty in all %lld "
                         "training images: %s; rows %s",
                         r->o->data, (long long)l->source.n, why, names.s);
    else if (status == MD_OK && empty && comm_leads())
        md_warn("train",
                "%lld of %lld samples (images and their mirror images) are skipped, since what the "
                "loss would count is empty: %s; rows %s",
                (long long)empty, (long long)all, why, names.s);
    md_text_free(&names);
    return status;
}

static md_status read_all(reading *r, lesions *out)
{
    int64_t *ids = NULL, n = 0;
    prior_pictures class = {0};
    if (r->o->prior_folder)
        MD_TRY(prior_list(r->o->prior_folder, r->o->prior_images, &class));
    md_status status = data_select(r->d, DATA_LESION, DATA_TRAIN, true, &ids, &n);
    if (status != MD_OK)
        goto done;
    size_t px = (size_t)(n * VARIANTS * r->edge * r->edge);
    size_t latents = (size_t)((n + class.n) * VARIANTS * r->latent);
    out->source.n = n;
    out->source.n_prior = class.n;
    out->mask = malloc((px + 1) * sizeof *out->mask);
    out->moments = malloc((latents + 1) * sizeof *out->moments);
    bool nine = r->f->unet->in_channels > r->f->vae->latent_channels;
    if (nine)
        out->masked = malloc((latents + 1) * sizeof *out->masked);
    if (!out->mask || !out->moments || (nine && !out->masked))
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "fine-tune: out of memory for %lld pictures",
                         (long long)n);
    else if (n == 0)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: no lesion image in the train split",
                         r->o->data);
    for (int64_t i = 0; i < n && status == MD_OK; i++) {
        status = read_picture(r, ids[i], out, i);
        if (status != MD_OK)
            status = md_context(status, "%s: row %lld", r->o->data, (long long)ids[i]);
    }
    if (status == MD_OK)
        status = tell_empty(r, out, ids);
    if (status == MD_OK)
        status = read_class(r, &class, out);
done:
    prior_free(&class);
    free(ids);
    return status;
}

static md_status encode_data(const foundation *f, md_backend *be, const lesions_options *o,
                             lesions *out)
{
    reading r = {.f = f, .o = o};
    md_status status;
    MD_TRY(data_open(o->data, DATA_IMAGES, &r.d));
    r.size = data_size(r.d);
    MD_TRY_GOTO(
        codec_new(be, f->vae, f->params[MODEL_VAE], o->dtype, (int)r.size, VARIANTS, 0, &r.k),
        done);
    MD_TRY_GOTO(codec_load(r.k), done);
    r.edge = codec_edge(r.k);
    r.latent = r.edge * r.edge * 2 * f->vae->latent_channels;
    MD_TRY_GOTO(image_new(&r.mask, r.size, r.size, 1), done);
    r.rgb = malloc((size_t)(VARIANTS * 3 * r.size * r.size));
    r.regions = malloc((size_t)(VARIANTS * r.size * r.size));
    if (!r.rgb || !r.regions) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "fine-tune: out of memory");
        goto done;
    }
    r.region = (image){r.size, r.size, 1, r.regions};
    out->source.variants = VARIANTS;
    out->source.edge = r.edge;
    out->source.channels = f->vae->latent_channels;
    out->source.scaling = f->vae->scaling_factor;
    status = read_all(&r, out);
done:
    free(r.rgb);
    free(r.regions);
    image_free(&r.mask);
    codec_free(r.k);
    data_close(r.d);
    return status;
}

/* The texts there are, in the order of DENOISE_PROMPT; the number of them. */
static int list_texts(const lesions_options *o, const char *text[DENOISE_N_TEXTS])
{
    text[DENOISE_PROMPT] = o->prompt;
    text[DENOISE_EMPTY] = "";
    text[DENOISE_CLASS] = o->prior_prompt;
    return o->prior_folder ? DENOISE_N_TEXTS : DENOISE_CLASS;
}

md_status lesions_tokens(const foundation *f, const lesions_options *o, int64_t *tokens)
{
    const char *text[DENOISE_N_TEXTS];
    int64_t length = format_tokenizer_length(f->tokenizer), most = 0, used;
    int n = list_texts(o, text);
    int32_t *ids = malloc((size_t)length * sizeof *ids);
    if (!ids)
        MD_FAIL(MD_NOMEM, "fine-tune: out of memory");
    md_status status = MD_OK;
    for (int i = 0; i < n && status == MD_OK; i++) {
        status = format_tokenizer_encode(f->tokenizer, text[i], ids, &used, NULL);
        most = status == MD_OK && used > most ? used : most;
    }
    free(ids);
    MD_TRY(status);
    *tokens = o->longest ? most : length;
    return MD_OK;
}

/* Token ids of every picture's text, or the embeddings of the texts there are. */
static md_status encode_prompt(const foundation *f, md_backend *be, const lesions_options *o,
                               lesions *out)
{
    denoise_source *s = &out->source;
    const char *text[DENOISE_N_TEXTS];
    int64_t length = format_tokenizer_length(f->tokenizer), t, wanted = 0;
    int n_texts = list_texts(o, text);
    MD_TRY(lesions_tokens(f, o, &t));
    s->tokens = t;
    s->width = f->text->hidden_size;
    out->ids = malloc((size_t)((s->n + s->n_prior) * t) * sizeof *out->ids);
    out->texts = malloc((size_t)(n_texts * length) * sizeof *out->texts);
    out->context = malloc((size_t)(n_texts * t * s->width) * sizeof *out->context);
    if (!out->ids || !out->texts || !out->context)
        MD_FAIL(MD_NOMEM, "fine-tune: out of memory");
    for (int i = 0; i < n_texts; i++) {
        int32_t *ids = out->texts + i * length;
        MD_TRY(format_tokenizer_encode(f->tokenizer, text[i], ids, NULL, &wanted));
        if (wanted > length)
            md_warn("train", "\"%s\" has %lld tokens, the text encoder sees %lld", text[i],
                    (long long)wanted, (long long)length);
        if (!o->train_text)
            MD_TRY(codec_text(be, f->text, f->params[MODEL_TEXT_ENCODER], o->dtype, ids, 1, t,
                              out->context + i * t * s->width));
    }
    for (int64_t i = 0; i < s->n + s->n_prior; i++)
        memcpy(out->ids + i * t, out->texts + (i < s->n ? DENOISE_PROMPT : DENOISE_CLASS) * length,
               (size_t)t * sizeof *out->ids);
    return MD_OK;
}

md_status lesions_load(const foundation *f, md_backend *be, const lesions_options *o, lesions *out)
{
    *out = (lesions){0};
    md_status status = encode_data(f, be, o, out);
    if (status == MD_OK)
        status = encode_prompt(f, be, o, out);
    if (status != MD_OK) {
        lesions_free(out);
        return status;
    }
    denoise_source *s = &out->source;
    s->moments = out->moments;
    s->mask = out->mask;
    s->masked = out->masked;
    s->ids = out->ids;
    s->empty_ids = out->texts + DENOISE_EMPTY * format_tokenizer_length(f->tokenizer);
    s->context = out->context;
    return MD_OK;
}

void lesions_free(lesions *l)
{
    free(l->moments);
    free(l->mask);
    free(l->masked);
    free(l->context);
    free(l->ids);
    free(l->texts);
    *l = (lesions){0};
}

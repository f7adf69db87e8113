/* pairs.h5 as a table of columns (layout: pairs.h and the README of this room). */
#include "store/pairs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "store/pairs_internal.h"

enum {
    IMAGES,
    MASKS,
    GUIDES,
    STATE,
    SIMILARITY,
    SIMILARITY_LESION,
    NEAREST_ID,
    ALIGNMENT,
    BACKGROUND_ID,
    MASK_ID,
    ATTEMPT,
    REASON,
    CRC,
    N_COLUMNS
};

static const store_column columns[N_COLUMNS] = {
    [IMAGES] = {"images", STORE_U8, 0, 3, {STORE_ANY, STORE_ANY, 3}, true, 0},
    [MASKS] = {"masks", STORE_U8, 0, 2, {STORE_ANY, STORE_ANY}, true, 0},
    [GUIDES] = {"guides", STORE_U8, 0, 2, {STORE_ANY, STORE_ANY}, true, 0},
    [STATE] = {"state", STORE_U8, 0, 0, {0}, false, PAIRS_EMPTY},
    [SIMILARITY] = {"similarity", STORE_F32, 0, 0, {0}, false, NAN},
    [SIMILARITY_LESION] = {"similarity_lesion", STORE_F32, 0, 0, {0}, false, NAN},
    [NEAREST_ID] = {"nearest_id", STORE_I32, 0, 0, {0}, false, -1},
    [ALIGNMENT] = {"alignment", STORE_F32, 0, 0, {0}, false, NAN},
    [BACKGROUND_ID] = {"background_id", STORE_I32, 0, 0, {0}, false, -1},
    [MASK_ID] = {"mask_id", STORE_I32, 0, 0, {0}, false, -1},
    [ATTEMPT] = {"attempt", STORE_I32, 0, 0, {0}, false, 0},
    [REASON] = {"reason", STORE_TEXT, PAIRS_REASON_BYTES, 0, {0}, false, 0},
    [CRC] = {"crc", STORE_U32, 0, 0, {0}, false, 0},
};

struct pairs_store {
    store_table *t;
    int64_t h, w;
    uint8_t *scratch; /* one slot: image, mask, guide */
};

pairs_row pairs_row_empty(void)
{
    return (pairs_row){.similarity = NAN,
                       .similarity_lesion = NAN,
                       .nearest_id = -1,
                       .alignment = NAN,
                       .background_id = -1,
                       .mask_id = -1};
}

/* ---- making ---- */

/* The inputs whose hashes a store carries, also when it grows; a new one is a new word here. */
static const char *const input_names[PAIRS_MAX_INPUTS] = {
    "data",         "masks",     "backgrounds", "unet",       "vae",
    "text_encoder", "scheduler", "lora",        "mask_model", "encoder"};

static bool is_input(const char *name)
{
    for (int i = 0; i < PAIRS_MAX_INPUTS; i++)
        if (strcmp(name, input_names[i]) == 0)
            return true;
    return false;
}

md_status pairs__make(const char *path, const pairs_spec *s, const store_column *more, int n_more)
{
    store_attr attr[10 + PAIRS_MAX_INPUTS];
    char input_name[PAIRS_MAX_INPUTS][64];
    int n = 0;
    attr[n++] = store_text_attr("prompt", s->prompt);
    attr[n++] = store_text_attr("foundation", s->foundation);
    attr[n++] = store_text_attr("config", s->config);
    attr[n++] = store_text_attr("code_version", s->code_version);
    attr[n++] = store_text_attr("licences", s->licences);
    attr[n] = (store_attr){"seed", STORE_ATTR_U64, 1, NULL, {{0}}};
    attr[n++].v.u[0] = s->seed;
    attr[n] = (store_attr){"band", STORE_ATTR_F64, PAIRS_BAND, NULL, {{0}}};
    memcpy(attr[n++].v.f, s->band, sizeof s->band);
    attr[n] = (store_attr){"contains_real_pixels", STORE_ATTR_I64, 1, NULL, {{0}}};
    attr[n++].v.i[0] = s->contains_real_pixels;
    if (s->n_inputs < 0 || s->n_inputs > PAIRS_MAX_INPUTS)
        MD_FAIL(MD_INTERNAL, "%s: %d input hashes", path, s->n_inputs);
    for (int i = 0; i < s->n_inputs; i++) {
        if (!is_input(s->input[i].name))
            MD_FAIL(MD_INTERNAL, "%s: no input is called %s", path, s->input[i].name);
        (void)snprintf(input_name[i], sizeof input_name[i], "sha256_%s", s->input[i].name);
        attr[n++] = store_text_attr(input_name[i], s->input[i].hex);
    }
    store_column c[STORE_MAX_COLUMNS];
    if (N_COLUMNS + n_more > STORE_MAX_COLUMNS)
        MD_FAIL(MD_INTERNAL, "%s: %d more columns", path, n_more);
    memcpy(c, columns, sizeof columns);
    for (int i = IMAGES; i <= GUIDES; i++) {
        c[i].dim[0] = s->height;
        c[i].dim[1] = s->width;
    }
    if (!more)
        return store_make(path, "pairs", c, N_COLUMNS, s->rows, attr, n);
    memcpy(c + N_COLUMNS, more, (size_t)n_more * sizeof *more);
    return store_make_packed(path, "pairs", c, N_COLUMNS + n_more, s->rows, attr, n);
}

static md_status make(const char *path, const void *spec)
{
    return pairs__make(path, spec, NULL, 0);
}

md_status pairs_create(const char *path, const pairs_spec *spec)
{
    if (spec->rows < 1 || spec->height < 1 || spec->width < 1)
        MD_FAIL(MD_USAGE, "%s: a store of %lld pairs of %lldx%lld pixels", path,
                (long long)spec->rows, (long long)spec->width, (long long)spec->height);
    return store_replace(path, make, spec);
}

/* ---- opening ---- */

static md_status open_mode(const char *path, store_mode mode, pairs_store **out)
{
    store_table *t = NULL;
    MD_TRY(store_open(path, "pairs", columns, N_COLUMNS, mode, &t));
    int64_t h = store_dim(t, IMAGES, 0), w = store_dim(t, IMAGES, 1);
    for (int c = MASKS; c <= GUIDES; c++) {
        if (store_dim(t, c, 0) != h || store_dim(t, c, 1) != w) {
            store_close(t);
            MD_FAIL(MD_BAD_INPUT, "%s: images and %s differ in size", path, columns[c].name);
        }
    }
    pairs_store *p = calloc(1, sizeof *p);
    uint8_t *scratch = malloc((size_t)(h * w * 5));
    if (!p || !scratch) {
        free(p);
        free(scratch);
        store_close(t);
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    }
    *p = (pairs_store){t, h, w, scratch};
    *out = p;
    return MD_OK;
}

md_status pairs_open_writer(const char *path, pairs_store **out)
{
    MD_TRY(open_mode(path, STORE_WRITE, out));
    return MD_OK;
}

md_status pairs_open_reader(const char *path, pairs_store **out)
{
    MD_TRY(open_mode(path, STORE_READ, out));
    return MD_OK;
}

void pairs_close(pairs_store *p)
{
    if (!p)
        return;
    store_close(p->t);
    free(p->scratch);
    free(p);
}

int64_t pairs_rows(const pairs_store *p)
{
    return store_rows(p->t);
}

int64_t pairs_height(const pairs_store *p)
{
    return p->h;
}

int64_t pairs_width(const pairs_store *p)
{
    return p->w;
}

/* ---- pixels ---- */

uint32_t pairs_crc(const pairs_store *p, const uint8_t *image, const uint8_t *mask,
                   const uint8_t *guide)
{
    size_t n = (size_t)(p->h * p->w);
    return md_crc32c(md_crc32c(md_crc32c(0, image, 3 * n), mask, n), guide, n);
}

static md_status check_binary(const pairs_store *p, int64_t slot, const char *name,
                              const uint8_t *mask)
{
    for (int64_t i = 0; i < p->h * p->w; i++)
        if (mask[i] > 1)
            MD_FAIL(MD_INTERNAL, "%s: slot %lld: the %s holds the value %d, wanted 0 or 1",
                    store_path(p->t), (long long)slot, name, mask[i]);
    return MD_OK;
}

md_status pairs_write_pixels(pairs_store *p, int64_t slot, const uint8_t *image,
                             const uint8_t *mask, const uint8_t *guide, uint32_t *crc)
{
    MD_TRY(check_binary(p, slot, "mask", mask));
    MD_TRY(check_binary(p, slot, "guide", guide));
    MD_TRY(store_write(p->t, IMAGES, slot, 1, image));
    MD_TRY(store_write(p->t, MASKS, slot, 1, mask));
    MD_TRY(store_write(p->t, GUIDES, slot, 1, guide));
    *crc = pairs_crc(p, image, mask, guide);
    return MD_OK;
}

md_status pairs_read_pixels(pairs_store *p, int64_t slot, uint8_t *image, uint8_t *mask,
                            uint8_t *guide)
{
    if (image)
        MD_TRY(store_read(p->t, IMAGES, slot, 1, image));
    if (mask)
        MD_TRY(store_read(p->t, MASKS, slot, 1, mask));
    if (guide)
        MD_TRY(store_read(p->t, GUIDES, slot, 1, guide));
    return MD_OK;
}

md_status pairs__flush(pairs_store *p)
{
    MD_TRY(store_flush(p->t));
    return MD_OK;
}

md_status pairs_sync(pairs_store *p)
{
    MD_TRY(store_sync(p->t));
    return MD_OK;
}

/* ---- rows ---- */

md_status pairs_write_row(pairs_store *p, int64_t slot, const pairs_row *row)
{
    uint8_t state = (uint8_t)row->state;
    if (row->state >= PAIRS_N_STATES)
        MD_FAIL(MD_INTERNAL, "%s: slot %lld: state %d", store_path(p->t), (long long)slot,
                (int)row->state);
    MD_TRY(store_write(p->t, SIMILARITY, slot, 1, &row->similarity));
    MD_TRY(store_write(p->t, SIMILARITY_LESION, slot, 1, &row->similarity_lesion));
    MD_TRY(store_write(p->t, NEAREST_ID, slot, 1, &row->nearest_id));
    MD_TRY(store_write(p->t, ALIGNMENT, slot, 1, &row->alignment));
    MD_TRY(store_write(p->t, BACKGROUND_ID, slot, 1, &row->background_id));
    MD_TRY(store_write(p->t, MASK_ID, slot, 1, &row->mask_id));
    MD_TRY(store_write(p->t, ATTEMPT, slot, 1, &row->attempt));
    MD_TRY(store_write(p->t, REASON, slot, 1, row->reason));
    MD_TRY(store_write(p->t, CRC, slot, 1, &row->crc));
    MD_TRY(store_write(p->t, STATE, slot, 1, &state)); /* last: it vouches for the others */
    return MD_OK;
}

md_status pairs_reset(pairs_store *p, int64_t slot, int32_t attempt)
{
    uint8_t state = PAIRS_EMPTY;
    MD_TRY(store_write(p->t, ATTEMPT, slot, 1, &attempt));
    MD_TRY(store_write(p->t, STATE, slot, 1, &state));
    return MD_OK;
}

md_status pairs_read_row(pairs_store *p, int64_t slot, pairs_row *row)
{
    pairs_row r = pairs_row_empty();
    uint8_t state = 0;
    MD_TRY(
        store_read(p->t, STATE, slot, 1, &state)); /* first: what it vouches for was there before */
    MD_TRY(store_read(p->t, SIMILARITY, slot, 1, &r.similarity));
    MD_TRY(store_read(p->t, SIMILARITY_LESION, slot, 1, &r.similarity_lesion));
    MD_TRY(store_read(p->t, NEAREST_ID, slot, 1, &r.nearest_id));
    MD_TRY(store_read(p->t, ALIGNMENT, slot, 1, &r.alignment));
    MD_TRY(store_read(p->t, BACKGROUND_ID, slot, 1, &r.background_id));
    MD_TRY(store_read(p->t, MASK_ID, slot, 1, &r.mask_id));
    MD_TRY(store_read(p->t, ATTEMPT, slot, 1, &r.attempt));
    MD_TRY(store_read(p->t, REASON, slot, 1, r.reason));
    MD_TRY(store_read(p->t, CRC, slot, 1, &r.crc));
    r.reason[sizeof r.reason - 1] = 0;
    if (state >= PAIRS_N_STATES)
        MD_FAIL(MD_BAD_INPUT, "%s: slot %lld has the unknown state %d", store_path(p->t),
                (long long)slot, state);
    r.state = (pairs_state)state;
    *row = r;
    return MD_OK;
}

md_status pairs_read_states(pairs_store *p, uint8_t *state)
{
    MD_TRY(store_read(p->t, STATE, 0, store_rows(p->t), state));
    return MD_OK;
}

md_status pairs_read_attempts(pairs_store *p, int32_t *attempt)
{
    MD_TRY(store_read(p->t, ATTEMPT, 0, store_rows(p->t), attempt));
    return MD_OK;
}

md_status pairs_count_states(pairs_store *p, int64_t count[PAIRS_N_STATES])
{
    int64_t found[PAIRS_N_STATES] = {0};
    for (int64_t i = 0, rows = store_rows(p->t); i < rows;) {
        uint8_t state[4096];
        int64_t n = rows - i < (int64_t)sizeof state ? rows - i : (int64_t)sizeof state;
        MD_TRY(store_read(p->t, STATE, i, n, state));
        for (int64_t j = 0; j < n; j++)
            found[state[j] < PAIRS_N_STATES ? state[j] : PAIRS_EMPTY]++;
        i += n;
    }
    memcpy(count, found, sizeof found);
    return MD_OK;
}

md_status pairs_count_remarked(pairs_store *p, int64_t *n)
{
    int64_t found = 0;
    for (int64_t i = 0; i < store_rows(p->t); i++) {
        char reason[PAIRS_REASON_BYTES];
        uint8_t state;
        MD_TRY(store_read(p->t, STATE, i, 1, &state));
        if (state != PAIRS_ACCEPTED)
            continue;
        MD_TRY(store_read(p->t, REASON, i, 1, reason));
        found += *reason != 0;
    }
    *n = found;
    return MD_OK;
}

/* ---- resuming ---- */

static md_status load_slot(pairs_store *p, int64_t slot)
{
    int64_t n = p->h * p->w;
    MD_TRY(pairs_read_pixels(p, slot, p->scratch, p->scratch + 3 * n, p->scratch + 4 * n));
    return MD_OK;
}

md_status pairs_verify_slot(pairs_store *p, int64_t slot, bool *whole)
{
    int64_t n = p->h * p->w;
    uint32_t crc = 0;
    MD_TRY(load_slot(p, slot));
    MD_TRY(store_read(p->t, CRC, slot, 1, &crc));
    *whole = crc == pairs_crc(p, p->scratch, p->scratch + 3 * n, p->scratch + 4 * n);
    return MD_OK;
}

md_status pairs_repair(pairs_store *p, int64_t *torn)
{
    *torn = 0;
    for (int64_t slot = 0; slot < store_rows(p->t); slot++) {
        uint8_t state = 0;
        bool whole = true;
        MD_TRY(store_read(p->t, STATE, slot, 1, &state));
        if (state == PAIRS_EMPTY || state == PAIRS_FAILED)
            continue;
        if (state < PAIRS_N_STATES)
            MD_TRY(pairs_verify_slot(p, slot, &whole));
        if (whole && state < PAIRS_N_STATES)
            continue;
        state = PAIRS_EMPTY;
        MD_TRY(store_write(p->t, STATE, slot, 1, &state));
        ++*torn;
    }
    return MD_OK;
}

/* Copies what `from` holds of slot into `to`; a torn slot is left empty there. unjudge: without
   what an assessment said. */
static md_status copy_slot(pairs_store *from, pairs_store *to, int64_t slot, bool unjudge)
{
    pairs_row row;
    MD_TRY(pairs_read_row(from, slot, &row));
    if (unjudge && (row.state == PAIRS_ACCEPTED || row.state == PAIRS_REJECTED)) {
        pairs_row bare = pairs_row_empty();
        bare.state = PAIRS_WRITTEN;
        bare.alignment = row.alignment;
        bare.background_id = row.background_id;
        bare.mask_id = row.mask_id;
        bare.attempt = row.attempt;
        bare.crc = row.crc;
        row = bare;
    }
    bool pixels = row.state != PAIRS_EMPTY && row.state != PAIRS_FAILED, whole = true;
    if (pixels)
        MD_TRY(pairs_verify_slot(from, slot, &whole)); /* leaves the pixels in the scratch */
    if (row.state == PAIRS_EMPTY || !whole) {
        if (row.attempt)
            MD_TRY(pairs_reset(to, slot, row.attempt));
        return MD_OK;
    }
    if (pixels) {
        int64_t n = from->h * from->w;
        MD_TRY(pairs_write_pixels(to, slot, from->scratch, from->scratch + 3 * n,
                                  from->scratch + 4 * n, &row.crc));
    }
    MD_TRY(pairs_write_row(to, slot, &row));
    return MD_OK;
}

static const char *const text_names[] = {"prompt", "foundation", "config", "code_version",
                                         "licences"};

_Static_assert(sizeof text_names / sizeof *text_names == PAIRS_TEXTS, "as many as are kept");

void pairs__free_spec(pairs_spec_copy *c)
{
    for (size_t i = 0; i < sizeof text_names / sizeof *text_names; i++)
        free(c->text[i]);
    for (int i = 0; i < PAIRS_MAX_INPUTS; i++)
        free(c->hex[i]);
}

md_status pairs__read_spec(pairs_store *p, pairs_spec_copy *c)
{
    for (size_t i = 0; i < sizeof text_names / sizeof *text_names; i++)
        MD_TRY(store_attr_text(p->t, text_names[i], &c->text[i]));
    c->spec = (pairs_spec){.rows = pairs_rows(p),
                           .height = p->h,
                           .width = p->w,
                           .prompt = c->text[0],
                           .foundation = c->text[1],
                           .config = c->text[2],
                           .code_version = c->text[3],
                           .licences = c->text[4]};
    MD_TRY(pairs_seed(p, &c->spec.seed));
    MD_TRY(pairs_band(p, c->spec.band));
    MD_TRY(pairs_contains_real_pixels(p, &c->spec.contains_real_pixels));
    for (int i = 0; i < PAIRS_MAX_INPUTS; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "sha256_%s", input_names[i]);
        if (!store_has_attr(p->t, name))
            continue;
        MD_TRY(store_attr_text(p->t, name, &c->hex[i]));
        c->spec.input[c->spec.n_inputs++] = (pairs_input){input_names[i], c->hex[i]};
    }
    return MD_OK;
}

/* What a copy has otherwise than its source. */
typedef struct change {
    const char *path; /* the source */
    int64_t rows;     /* < 0: as many */
    const char *config_text, *encoder;
    const double *band; /* NULL: as it was; so the texts */
    bool unjudge;
} change;

static void set_encoder(pairs_spec *s, const char *hex)
{
    int i = 0;
    while (i < s->n_inputs && strcmp(s->input[i].name, "encoder") != 0)
        i++;
    s->input[i] = (pairs_input){"encoder", hex};
    s->n_inputs += i == s->n_inputs;
}

static md_status copy_into(const char *temp, const void *what)
{
    const change *c = what;
    md_status status = MD_OK;
    pairs_store *from = NULL, *to = NULL;
    pairs_spec_copy copy = {0};
    MD_TRY_GOTO(pairs_open_reader(c->path, &from), done);
    if (c->rows >= 0 && c->rows < pairs_rows(from)) {
        status = md_fail(MD_USAGE, __FILE__, __LINE__,
                         "%s holds %lld slots; a store grows, it does not shrink to %lld", c->path,
                         (long long)pairs_rows(from), (long long)c->rows);
        goto done;
    }
    MD_TRY_GOTO(pairs__read_spec(from, &copy), done);
    copy.spec.rows = c->rows >= 0 ? c->rows : copy.spec.rows;
    if (c->config_text)
        copy.spec.config = c->config_text;
    if (c->band)
        memcpy(copy.spec.band, c->band, sizeof copy.spec.band);
    if (c->encoder)
        set_encoder(&copy.spec, c->encoder);
    MD_TRY_GOTO(make(temp, &copy.spec), done);
    MD_TRY_GOTO(pairs_open_writer(temp, &to), done);
    for (int64_t slot = 0; slot < pairs_rows(from); slot++)
        MD_TRY_GOTO(copy_slot(from, to, slot, c->unjudge), done);
done:
    pairs_close(from);
    pairs_close(to);
    pairs__free_spec(&copy);
    return status;
}

md_status pairs_grow(const char *path, int64_t rows, const char *config_text)
{
    md_status status = store_replace(
        path, copy_into, &(change){.path = path, .rows = rows, .config_text = config_text});
    return status == MD_OK ? MD_OK
                           : md_context(status, "growing %s to %lld pairs", path, (long long)rows);
}

md_status pairs_unjudge(const char *path, const char *config_text, const double band[PAIRS_BAND],
                        const char *encoder)
{
    md_status status = store_replace(path, copy_into,
                                     &(change){.path = path,
                                               .rows = -1,
                                               .config_text = config_text,
                                               .encoder = encoder,
                                               .band = band,
                                               .unjudge = true});
    return status == MD_OK ? MD_OK : md_context(status, "%s: new limits", path);
}

/* ---- attributes ---- */

md_status pairs_text(pairs_store *p, const char *name, char **out)
{
    MD_TRY(store_attr_text(p->t, name, out));
    return MD_OK;
}

md_status pairs_config(pairs_store *p, config **out)
{
    char *text = NULL;
    MD_TRY(pairs_text(p, "config", &text));
    md_status status = config_parse(text, strlen(text), store_path(p->t), out);
    free(text);
    return status;
}

const char *pairs_input_name(int i)
{
    return i >= 0 && i < PAIRS_MAX_INPUTS ? input_names[i] : NULL;
}

bool pairs_has_input(pairs_store *p, const char *name)
{
    char attribute[64];
    (void)snprintf(attribute, sizeof attribute, "sha256_%s", name);
    return store_has_attr(p->t, attribute);
}

md_status pairs_seed(pairs_store *p, uint64_t *seed)
{
    MD_TRY(store_attr_u64(p->t, "seed", 1, seed));
    return MD_OK;
}

md_status pairs_band(pairs_store *p, double band[PAIRS_BAND])
{
    MD_TRY(store_attr_f64(p->t, "band", PAIRS_BAND, band));
    return MD_OK;
}

md_status pairs_contains_real_pixels(pairs_store *p, bool *real)
{
    int64_t v = 0;
    MD_TRY(store_attr_i64(p->t, "contains_real_pixels", 1, &v));
    *real = v != 0;
    return MD_OK;
}

/* ---- resuming under the same config ---- */

static md_status check_input(pairs_store *p, const pairs_input *in)
{
    char name[64], *was = NULL;
    (void)snprintf(name, sizeof name, "sha256_%s", in->name);
    if (!store_has_attr(p->t, name))
        return MD_OK;
    MD_TRY(store_attr_text(p->t, name, &was));
    md_status status = MD_OK;
    if (strcmp(was, in->hex) != 0)
        status =
            md_fail(MD_USAGE, __FILE__, __LINE__,
                    "%s was begun with another version of \"%s\" (SHA-256 %.12s..., now %.12s...); "
                    "use another run directory",
                    store_path(p->t), in->name, was, in->hex);
    free(was);
    return status;
}

md_status pairs_check_config(pairs_store *p, const config *now, const char *sections,
                             const pairs_input *input, int n_inputs)
{
    config *then = NULL;
    MD_TRY(pairs_config(p, &then));
    md_status status = config_same(now, then, sections);
    config_free(then);
    MD_TRY(status);
    for (int i = 0; i < n_inputs; i++)
        MD_TRY(check_input(p, &input[i]));
    return MD_OK;
}

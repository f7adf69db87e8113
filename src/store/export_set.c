/* What is exported: the accepted pairs, the data set's own, and whether the stores belong together.
 */
#include "store/export_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"

enum { REAL_NONE, REAL_USED, REAL_ALL }; /* as keys.def lists them */

/* ---- the stores ---- */

/* RUN/<name>.h5 is the one that the pairs were made from. */
static md_status check_same(export_set *s, const char *name, const char *path)
{
    char attribute[64], hex[MD_SHA256_HEX], *was = NULL;
    if (!pairs_has_input(s->pairs, name))
        return MD_OK;
    MD_TRY(md_str_printf(attribute, sizeof attribute, "sha256_%s", name));
    MD_TRY(md_sha256_file(path, hex));
    MD_TRY(pairs_text(s->pairs, attribute, &was));
    bool same = strcmp(was, hex) == 0;
    free(was);
    if (!same)
        MD_FAIL(MD_BAD_INPUT,
                "%s is not the one that the pairs of %s were made from: a picture's part in the "
                "split may be another now; bring the old one back, or make the pairs again",
                path, s->run);
    return MD_OK;
}

static md_status open_data(export_set *s, data_schema schema, const char *name, data_store **out)
{
    char path[EXPORT_PATH];
    MD_TRY(md_str_printf(path, sizeof path, "%s/%s.h5", s->run, name));
    if (!md_file_exists(path))
        return MD_OK;
    MD_TRY(data_open(path, schema, out));
    MD_TRY(check_same(s, name, path));
    if (data_size(*out) != pairs_width(s->pairs) || data_size(*out) != pairs_height(s->pairs))
        MD_FAIL(MD_BAD_INPUT, "%s: pictures of %lldx%lld pixels, the pairs have %lldx%lld", path,
                (long long)data_size(*out), (long long)data_size(*out),
                (long long)pairs_width(s->pairs), (long long)pairs_height(s->pairs));
    return MD_OK;
}

static md_status open_pairs(export_set *s)
{
    char path[EXPORT_PATH];
    MD_TRY(md_path_join(path, sizeof path, s->run, "pairs.h5"));
    if (!md_file_exists(path))
        MD_FAIL(MD_BAD_INPUT,
                "%s is not there: \"meddiff generate\" (or \"pipeline\") with the run's "
                "configuration makes it",
                path);
    MD_TRY(pairs_open_reader(path, &s->pairs));
    MD_TRY(pairs_count_states(s->pairs, s->report->slots));
    const int64_t *n = s->report->slots;
    if (!n[PAIRS_ACCEPTED])
        MD_FAIL(MD_BAD_INPUT,
                "%s: no pair is accepted (%lld empty, %lld not yet judged, %lld rejected, %lld "
                "failed), so there is nothing to export; \"meddiff status %s\" says how far it is",
                path, (long long)n[PAIRS_EMPTY], (long long)n[PAIRS_WRITTEN],
                (long long)n[PAIRS_REJECTED], (long long)n[PAIRS_FAILED], s->run);
    return MD_OK;
}

/* What --share promises: nobody's pixels, names or paths. */
static md_status check_share(export_set *s)
{
    static const char left_out[] = "these are the data set's own images, which --share leaves out; "
                                   "take one of the two away";
    bool real = true;
    if (!s->shared)
        return MD_OK;
    if (config_is_set(s->cfg, KEY_export_real) &&
        config_choice(s->cfg, KEY_export_real) != REAL_NONE)
        return config_fail(s->cfg, KEY_export_real, "%s", left_out);
    if (config_bool(s->cfg, KEY_export_healthy))
        return config_fail(s->cfg, KEY_export_healthy, "%s", left_out);
    MD_TRY(pairs_contains_real_pixels(s->pairs, &real));
    if (real)
        MD_FAIL(
            MD_USAGE,
            "%s/pairs.h5: --share is refused: these pairs are painted over real images, or over "
            "real ones whose lesion was repaired, and hold a patient's pixels outside the "
            "guide. They are pseudonymous, not anonymous: without --share they can be "
            "exported, for those who may see the originals",
            s->run);
    return MD_OK;
}

/* ---- the list ---- */

static md_status add(export_set *s, export_item e)
{
    if ((s->n & (s->n - 1)) == 0) { /* a power of two: full, or empty */
        size_t cap = s->n ? 2 * (size_t)s->n : 1;
        export_item *grown = realloc(s->item, cap * sizeof *grown);
        if (!grown)
            MD_FAIL(MD_NOMEM, "%s: no memory to list what is exported", s->run);
        s->item = grown;
    }
    s->item[s->n++] = e;
    s->report->count[e.kind][e.split]++;
    return MD_OK;
}

static md_status group_of(data_store *d, int64_t row, int32_t *group)
{
    data_row r;
    *group = -1;
    if (!d || row < 0 || row >= data_rows(d))
        return MD_OK;
    MD_TRY(data_read_row(d, row, &r));
    *group = r.group;
    return MD_OK;
}

static md_status list_pairs(export_set *s)
{
    const int64_t rows = pairs_rows(s->pairs);
    bool drawn = pairs_has_input(s->pairs, "masks"); /* guides are nobody's */
    uint8_t *state = malloc((size_t)rows);
    md_status status =
        state ? pairs_read_states(s->pairs, state)
              : md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: no memory to list its pairs", s->run);
    s->report->slots[PAIRS_ACCEPTED] = 0; /* a live run may have made some more */
    for (int64_t i = 0; i < rows && status == MD_OK; i++) {
        pairs_row r;
        export_item e = {EXPORT_PAIR, DATA_TRAIN, i, {-1, -1}};
        if (state[i] != PAIRS_ACCEPTED)
            continue;
        MD_TRY_GOTO(pairs_read_row(s->pairs, i, &r), done);
        MD_TRY_GOTO(group_of(s->backgrounds, r.background_id, &e.group[0]), done);
        MD_TRY_GOTO(group_of(drawn ? NULL : s->data, r.mask_id, &e.group[1]), done);
        MD_TRY_GOTO(add(s, e), done);
        s->report->slots[PAIRS_ACCEPTED]++;
    }
done:
    free(state);
    return status;
}

static md_status list_real(export_set *s, bool all, bool healthy)
{
    for (int64_t i = 0; i < data_rows(s->data); i++) {
        data_row r;
        MD_TRY(data_read_row(s->data, i, &r));
        bool lesion = r.kind == DATA_LESION;
        if (lesion ? r.split == DATA_TRAIN && !r.used && !all : !healthy)
            continue;
        MD_TRY(add(s, (export_item){
                          lesion ? EXPORT_REAL : EXPORT_HEALTHY, r.split, i, {r.group, r.group}}));
    }
    return MD_OK;
}

md_status export__open(export_set *s)
{
    int real = s->shared ? REAL_NONE : config_choice(s->cfg, KEY_export_real);
    bool healthy = config_bool(s->cfg, KEY_export_healthy);
    MD_TRY(open_pairs(s));
    MD_TRY(check_share(s));
    MD_TRY(open_data(s, DATA_IMAGES, "data", &s->data));
    MD_TRY(open_data(s, DATA_BACKGROUNDS, "backgrounds", &s->backgrounds));
    if (!s->data && (real != REAL_NONE || healthy))
        MD_FAIL(MD_BAD_INPUT,
                "%s/data.h5 is not there, which holds the real images; --set export.real=none "
                "exports the synthetic pairs alone",
                s->run);
    if (!s->backgrounds && !s->shared)
        md_warn("export",
                "%s/backgrounds.h5 is not there: what the pairs were painted over is "
                "known by number only",
                s->run);
    MD_TRY(list_pairs(s));
    if (real != REAL_NONE)
        MD_TRY(list_real(s, real == REAL_ALL, healthy));
    const int64_t side = pairs_width(s->pairs);
    MD_TRY(image_new(&s->image, side, side, 3));
    MD_TRY(image_new(&s->mask, side, side, 1));
    MD_TRY(image_new(&s->guide, side, side, 1));
    return MD_OK;
}

void export__close(export_set *s)
{
    pairs_close(s->pairs);
    data_close(s->data);
    data_close(s->backgrounds);
    image_free(&s->image);
    image_free(&s->mask);
    image_free(&s->guide);
    free(s->item);
}

/* ---- one of it ---- */

md_status export__load(export_set *s, int64_t i)
{
    const export_item *e = &s->item[i];
    bool pair = e->kind == EXPORT_PAIR, whole = false;
    MD_TRY(pair ? pairs_verify_slot(s->pairs, e->row, &whole)
                : data_verify_row(s->data, e->row, &whole));
    if (!whole)
        MD_FAIL(MD_BAD_INPUT,
                "%s/%s: %s %lld: its pixels do not give the checksum that was stored with them; "
                "\"meddiff verify %s\" looks at all of them",
                s->run, pair ? "pairs.h5" : "data.h5", pair ? "slot" : "row", (long long)e->row,
                s->run);
    MD_TRY(pair ? pairs_read_pixels(s->pairs, e->row, s->image.px, s->mask.px, s->guide.px)
                : data_read_pixels(s->data, e->row, s->image.px, s->mask.px));
    md_progress_at(&s->bar, i);
    return MD_OK;
}

static const struct {
    const char *kind, *name;
} words[EXPORT_N_KINDS] = {{"synthetic", "pair"}, {"real", "real"}, {"lesion-free", "healthy"}};

void export__name(const export_item *e, char out[EXPORT_NAME])
{
    (void)snprintf(out, EXPORT_NAME, "%s-%06lld", words[e->kind].name, (long long)e->row);
}

const char *export__kind(const export_item *e)
{
    return words[e->kind].kind;
}

md_status export__licence(export_set *s, const export_item *e, char out[DATA_LICENCE_BYTES])
{
    data_row r;
    pairs_row p;
    if (e->kind != EXPORT_PAIR) {
        MD_TRY(data_read_row(s->data, e->row, &r));
        return md_str_copy(out, DATA_LICENCE_BYTES, r.licence);
    }
    MD_TRY(pairs_read_row(s->pairs, e->row, &p));
    if (s->backgrounds && p.background_id >= 0 && p.background_id < data_rows(s->backgrounds)) {
        MD_TRY(data_read_row(s->backgrounds, p.background_id, &r));
        return md_str_copy(out, DATA_LICENCE_BYTES, r.licence);
    }
    char *text = NULL;
    MD_TRY(pairs_text(s->pairs, "licences", &text));
    (void)snprintf(out, DATA_LICENCE_BYTES, "%s", text);
    free(text);
    return MD_OK;
}

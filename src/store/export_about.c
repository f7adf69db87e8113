/* What an export says about itself: pairs.csv, a line for each picture, and about.json. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "format/json.h"
#include "store/export_internal.h"

md_status export__file(char out[EXPORT_PATH], const char *folder, const char *sub, const char *file,
                       const char *suffix)
{
    MD_TRY(md_str_printf(out, EXPORT_PATH, "%s/%s", folder, sub));
    if (!md_file_exists(out))
        MD_TRY(md_dir_make(out));
    return md_str_printf(out, EXPORT_PATH, "%s/%s/%s%s", folder, sub, file, suffix);
}

/* ---- pairs.csv ---- */

/* A field of its own; nothing where there is no number. */
static md_status add_number(md_text *t, double x)
{
    return isnan(x) ? md_text_add(t, ",") : md_text_add(t, ",%.9g", x);
}

static md_status add_word(md_text *t, const char *s)
{
    MD_TRY(md_text_add(t, ","));
    return md_text_add_csv(t, s);
}

static md_status add_source(md_text *t, const data_row *r)
{
    MD_TRY(md_text_add(t, ",%d,%d", r->data_id, r->group));
    MD_TRY(add_word(t, r->name));
    MD_TRY(add_word(t, r->sha256));
    return add_word(t, r->licence);
}

static md_status add_pair(export_set *s, md_text *t, const export_item *e)
{
    pairs_row r;
    data_row b;
    MD_TRY(pairs_read_row(s->pairs, e->row, &r));
    MD_TRY(add_number(t, r.similarity));
    MD_TRY(add_number(t, r.similarity_lesion));
    MD_TRY(add_number(t, r.alignment));
    if (s->shared)
        return MD_OK;
    MD_TRY(md_text_add(t, ",%d,%d,%d,%d", r.attempt, r.background_id, r.mask_id, r.nearest_id));
    MD_TRY(add_word(t, r.reason));
    if (!s->backgrounds || r.background_id < 0 || r.background_id >= data_rows(s->backgrounds))
        return md_text_add(t, ",,,,,");
    MD_TRY(data_read_row(s->backgrounds, r.background_id, &b));
    return add_source(t, &b);
}

static md_status add_line(export_set *s, md_text *t, const export_item *e, export_where where)
{
    char file[EXPORT_PATH];
    data_row r;
    MD_TRY(where(e, file, sizeof file));
    MD_TRY(md_text_add_csv(t, file));
    MD_TRY(md_text_add(t, ",%s,%s", export__kind(e), data_split_name(e->split)));
    if (e->kind == EXPORT_PAIR) {
        MD_TRY(md_text_add(t, ",%lld", (long long)e->row));
        MD_TRY(add_pair(s, t, e));
    } else {
        MD_TRY(data_read_row(s->data, e->row, &r));
        MD_TRY(md_text_add(t, ",,,,,,,,,"));
        MD_TRY(add_source(t, &r));
    }
    return md_text_add(t, "\n");
}

static md_status add_lines(export_set *s, md_text *t, export_where where)
{
    MD_TRY(md_text_add(t, "file,kind,split,slot,similarity,similarity_lesion,alignment%s\n",
                       s->shared ? ""
                                 : ",attempt,background_id,mask_id,nearest_id,remark,data_id,group,"
                                   "source,source_sha256,licence"));
    for (int64_t i = 0; i < s->n; i++)
        MD_TRY(add_line(s, t, &s->item[i], where));
    return MD_OK;
}

/* ---- about.json ---- */

static md_status add_text(export_set *s, md_text *t, const char *name)
{
    char *text = NULL;
    MD_TRY(pairs_text(s->pairs, name, &text));
    md_status status = md_text_add(t, ",\n  \"%s\": ", name);
    if (status == MD_OK)
        status = format_json_quote(t, text);
    free(text);
    return status;
}

static md_status add_counts(export_set *s, md_text *t)
{
    static const char *const names[EXPORT_N_KINDS] = {"synthetic", "real", "lesion_free"};
    for (int k = 0; k < EXPORT_N_KINDS; k++) {
        const int64_t *n = s->report->count[k];
        MD_TRY(md_text_add(t, ",\n  \"%s\": {\"train\": %lld, \"val\": %lld, \"test\": %lld}",
                           names[k], (long long)n[DATA_TRAIN], (long long)n[DATA_VAL],
                           (long long)n[DATA_TEST]));
    }
    return MD_OK;
}

static md_status add_band(export_set *s, md_text *t)
{
    double band[PAIRS_BAND];
    MD_TRY(pairs_band(s->pairs, band));
    MD_TRY(md_text_add(t, ",\n  \"band\": ["));
    for (int i = 0; i < PAIRS_BAND; i++)
        MD_TRY(isnan(band[i]) ? md_text_add(t, "%snull", i ? ", " : "")
                              : md_text_add(t, "%s%.17g", i ? ", " : "", band[i]));
    return md_text_add(t, "]");
}

static md_status add_hashes(export_set *s, md_text *t)
{
    const char *name;
    for (int i = 0; (name = pairs_input_name(i)); i++) {
        char attribute[64];
        MD_TRY(md_str_printf(attribute, sizeof attribute, "sha256_%s", name));
        if (pairs_has_input(s->pairs, name))
            MD_TRY(add_text(s, t, attribute));
    }
    return MD_OK;
}

static md_status add_about(export_set *s, md_text *t)
{
    bool real = true;
    uint64_t seed = 0;
    MD_TRY(pairs_contains_real_pixels(s->pairs, &real));
    MD_TRY(pairs_seed(s->pairs, &seed));
    MD_TRY(md_text_add(t, "{\n  \"exported_by\": \"meddiff " MEDDIFF_VERSION "\""));
    MD_TRY(md_text_add(t, ",\n  \"seed\": %llu", (unsigned long long)seed));
    MD_TRY(md_text_add(t, ",\n  \"contains_real_pixels\": %s", real ? "true" : "false"));
    MD_TRY(add_counts(s, t));
    MD_TRY(add_text(s, t, "prompt"));
    MD_TRY(add_text(s, t, "code_version"));
    MD_TRY(add_text(s, t, "licences"));
    MD_TRY(add_band(s, t));
    if (!s->shared) {
        MD_TRY(add_text(s, t, "foundation"));
        MD_TRY(add_hashes(s, t));
        MD_TRY(add_text(s, t, "config"));
    }
    return md_text_add(t, "\n}\n");
}

static md_status write_text(const char *folder, const char *name, const md_text *t)
{
    char path[EXPORT_PATH];
    MD_TRY(md_path_join(path, sizeof path, folder, name));
    return md_file_write_atomic(path, t->s, t->n);
}

md_status export__describe(export_set *s, const char *folder, export_where where)
{
    md_text t = {0};
    md_status status = add_lines(s, &t, where);
    if (status == MD_OK)
        status = write_text(folder, "pairs.csv", &t);
    md_text_free(&t);
    MD_TRY(status);
    status = add_about(s, &t);
    if (status == MD_OK)
        status = write_text(folder, "about.json", &t);
    md_text_free(&t);
    return status;
}

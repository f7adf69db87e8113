/* meddiff show RUN ID: one pair beside what it was made from, where each part comes from, and the
   command that makes it again. Reads without a lock, so a live run is not disturbed. */
#include "show.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"

static const size_t REJECTED_BYTES = (size_t)1 << 31;

static bool in_run(const show *s, const char *name, char path[SHOW_PATH])
{
    return md_path_join(path, SHOW_PATH, s->run, name) == MD_OK && md_file_exists(path);
}

static md_status open_pairs(show *s)
{
    char path[SHOW_PATH], *end;
    if (!in_run(s, "pairs.h5", path))
        MD_FAIL(MD_USAGE,
                "%s does not exist: name a run directory in which \"meddiff generate\" or "
                "\"pipeline\" has begun",
                path);
    MD_TRY(pairs_open_reader(path, &s->pairs));
    errno = 0;
    long long id = strtoll(s->j->id, &end, 10);
    if (errno || end == s->j->id || *end || id < 0 || id >= pairs_rows(s->pairs))
        MD_FAIL(MD_USAGE, "\"%s\" is no pair of %s, which has 0 to %lld", s->j->id, path,
                (long long)pairs_rows(s->pairs) - 1);
    s->slot = id;
    s->size = pairs_height(s->pairs);
    return pairs_config(s->pairs, &s->cfg);
}

static md_status open_inputs(show *s)
{
    char path[SHOW_PATH];
    if (in_run(s, "data.h5", path))
        MD_TRY(data_open(path, DATA_IMAGES, &s->data));
    if (in_run(s, "backgrounds.h5", path))
        MD_TRY(data_open(path, DATA_BACKGROUNDS, &s->backgrounds));
    if (pairs_has_input(s->pairs, "masks") && in_run(s, "masks.h5", path))
        MD_TRY(masks_open_reader(path, &s->masks));
    return MD_OK;
}

static md_status read_pair(show *s)
{
    MD_TRY(pairs_read_row(s->pairs, s->slot, &s->row));
    s->painted = s->row.state == PAIRS_WRITTEN || s->row.state == PAIRS_ACCEPTED ||
                 s->row.state == PAIRS_REJECTED;
    if (!s->painted)
        return MD_OK;
    MD_TRY(image_new(&s->rgb, s->size, s->size, 3));
    MD_TRY(image_new(&s->mask, s->size, s->size, 1));
    MD_TRY(image_new(&s->guide, s->size, s->size, 1));
    MD_TRY(pairs_read_pixels(s->pairs, s->slot, s->rgb.px, s->mask.px, s->guide.px));
    s->whole = pairs_crc(s->pairs, s->rgb.px, s->mask.px, s->guide.px) == s->row.crc;
    return MD_OK;
}

/* The slot's lines of rejected.csv, in the order of their attempts. */
static md_status read_rejected(show *s)
{
    char path[SHOW_PATH];
    void *text = NULL;
    size_t bytes = 0, lines = 1;
    int64_t bad, n = 0;
    if (!in_run(s, "rejected.csv", path))
        return MD_OK;
    MD_TRY(md_file_read(path, REJECTED_BYTES, &text, &bytes));
    for (size_t i = 0; i < bytes; i++)
        lines += ((const char *)text)[i] == '\n';
    s->rejected = malloc(lines * sizeof *s->rejected);
    if (s->rejected)
        n = rejects_parse(text, bytes, s->rejected, (int64_t)lines, &bad);
    free(text);
    if (!s->rejected)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    for (int64_t i = 0; i < n; i++)
        if (s->rejected[i].slot == s->slot)
            s->rejected[s->n_rejected++] = s->rejected[i];
    return MD_OK;
}

show_difference show_compare(const show *s)
{
    show_difference d = {0};
    if (!s->redrawn)
        return d;
    d.crc = pairs_crc(s->pairs, s->again.rgb.px, s->again.mask.px, s->again.guide.px);
    d.known = s->painted && (int32_t)s->attempt == s->row.attempt;
    for (int64_t i = 0; i < s->size * s->size && d.known; i++) {
        int most = 0;
        for (int64_t k = 3 * i; k < 3 * i + 3; k++) {
            int by = abs(s->rgb.px[k] - s->again.rgb.px[k]);
            most = by > most ? by : most;
        }
        d.pixels += most > 0;
        d.most = most > d.most ? most : d.most;
        d.mask_pixels += s->mask.px[i] != s->again.mask.px[i];
        d.guide_pixels += s->guide.px[i] != s->again.guide.px[i];
    }
    return d;
}

static md_status picture_path(const show *s, char png[SHOW_PATH])
{
    const char *to = config_string(s->j->cfg, KEY_show_to);
    char name[48];
    if (*to)
        return md_str_copy(png, SHOW_PATH, to);
    (void)snprintf(name, sizeof name, "show-%lld.png", (long long)s->slot);
    return md_path_join(png, SHOW_PATH, s->run, name);
}

static md_status tell(const show *s)
{
    char png[SHOW_PATH];
    md_text t = {0};
    bool drawn = s->painted || s->redrawn;
    MD_TRY(picture_path(s, png));
    md_status status = show_text(s, drawn ? png : NULL, &t);
    if (status == MD_OK) {
        (void)fputs(t.s, stdout);
        status = show_sheet(s, png, t.s);
        if (status != MD_OK)
            status = md_context(status, "the picture (show.to=FILE names another place)");
    }
    md_text_free(&t);
    return status;
}

static md_status judge(const show *s)
{
    show_difference d = show_compare(s);
    if (d.known && d.crc != s->row.crc)
        MD_FAIL(MD_IO,
                "pair %lld painted again differs from the stored one: in %lld of %lld pixels, by "
                "at most %d grey levels; the same bytes are promised on the same kind of "
                "processor and by the same build, on a GPU under deterministic = true",
                (long long)s->slot, (long long)d.pixels, (long long)(s->size * s->size), d.most);
    if (s->painted && !s->whole)
        MD_FAIL(MD_IO,
                "pair %lld: its pixels do not give the checksum that was stored with them; "
                "\"meddiff generate\" paints it again",
                (long long)s->slot);
    return MD_OK;
}

static void close_all(show *s)
{
    pairs_close(s->pairs);
    data_close(s->data);
    data_close(s->backgrounds);
    masks_close(s->masks);
    config_free(s->cfg);
    image_free(&s->rgb);
    image_free(&s->mask);
    image_free(&s->guide);
    free(s->rejected);
    pairs_redrawn_free(&s->again);
}

static md_status show_pair(show *s)
{
    MD_TRY(open_pairs(s));
    MD_TRY(open_inputs(s));
    MD_TRY(read_pair(s));
    MD_TRY(read_rejected(s));
    if (config_bool(s->j->cfg, KEY_show_redraw))
        MD_TRY(show_redraw(s));
    else if (config_int(s->j->cfg, KEY_show_attempt) >= 0)
        return config_fail(s->j->cfg, KEY_show_attempt,
                           "says what to paint again: set show.redraw=true too");
    MD_TRY(tell(s));
    return judge(s);
}

/* Local. */
md_status job_show(job *j)
{
    show s = {.j = j, .run = j->arg};
    md_status status = show_pair(&s);
    close_all(&s);
    return status;
}
